"""Where the direct methods lie in `mix`: the keys with which it is each of them. A search starts there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sega.errors import RequestError
from sega.methods.base import Method
from sega.methods.borrowed import Borrowing
from sega.methods.parameters import parameters_of
from sega.methods.registry import build_method

from .dype import DyPE
from .kernels.idle import SPECTRAL
from .mix import PATTERN_KEYS, Mix
from .sigma import SigMa
from .tasr import TASR
from .ultraimage import UltraImage, published
from .vision_yarn import VisionYaRN
from .yarn import YaRN

Keys = dict[str, Any]


def point(method: Method) -> Keys:
    """The keys of `mix`, without those at their default, that make it a method as it was built.

    Positions are the same to rounding, attention and time shift the same. The steps and the guidance that UltraImage
    sets on FLUX are the run's here. Raises RequestError for a staged method, and for a key that has no counterpart.
    """
    if method.staged or method.name not in POINTS:
        known = ", ".join(POINTS)
        raise RequestError(f"{method.name} is no point of mix, which has one stage and the parts of {known}")
    keys = {"schedule": method.schedule} | POINTS[method.name](method)
    built = Mix(method.geometry, **keys)
    return {key: value for key, value in built.parameters().items() if value != built.neutral[key]}


def _dype(method: DyPE) -> Keys:
    keys: Keys = {"frequencies": method.base, "clock": "power", "exponent": method.lambda_t, "time": method.time}
    if method.base == "pi":
        return keys | {"ratio": "longer", "share": method.lambda_s}
    if method.base == "ntk" and method.ntk == "exponential":
        return keys | {"share": method.lambda_s}
    keys |= {"strength": method.lambda_s}
    if method.base == "ntk":
        return keys | {"clock_on": "ratio"}
    on = "turns" if method.acts_on == "thresholds" else method.acts_on
    return keys | {"clock_on": on, "rule": method.rule, "magnitude": "log"}


def _sigma(method: SigMa) -> Keys:
    keys: Keys = {"frequencies": method.base, "clock": "sigmoid", "centre": method.centre, "rate": method.rate}
    if method.base == "ntk":
        return keys
    rule = "sigma" if method.rule == "code" else "product"
    faded = method.magnitude == "clock"
    return keys | {"clock_on": "turns", "rule": rule, "magnitude": "log", "magnitude_clock": faded}


def _tasr(method: TASR) -> Keys:
    kinds = {"frequencies": "pi", "second": "ntk_linear", "ratio": "area"}
    return kinds | {"clock": "switch", "centre": 1 - method.watershed}


def _vision_yarn(method: VisionYaRN) -> Keys:
    clock = {"clock": "power", "exponent": method.lambda_t, "clock_on": "turns", "rule": "power"}
    magnitude = {"magnitude": "log", "magnitude_ratio": "longer", "magnitude_clock": True}
    own = {"strength": method.lambda_s, "magnitude_start": method.start_sigma}
    return {"frequencies": "yarn", "ratio": "split"} | clock | magnitude | own


def _yarn(method: YaRN) -> Keys:
    return {"frequencies": "yarn" if method.variant == "image" else "yarn_llm", "magnitude": "log"}


def _sega(method: Any) -> Keys:
    if method.frequencies == "ntk":
        keys: Keys = {"frequencies": "ntk_sega" if method.ntk == "code" else "ntk_sega_plain"}
    else:
        keys = _frequencies(method.frequency_method())
    keys["text"] = "shared"
    if method.kappa == 0:
        return keys
    keys |= {"magnitude": method.m_ref, "kappa": method.kappa, "magnitude_ratio": "sega"}
    if method.geometry.facts.ratio == "each":
        keys["tie_axes"] = method.tie_axes
    if method.uniform:
        return keys
    return keys | {key: getattr(method, key) for key in ("amplitude", *SPECTRAL)}


def _frequencies(method: Method) -> Keys:
    """The keys of a point that are about frequencies: those declared before `magnitude`."""
    order = list(parameters_of(Mix))
    about = set(order[: order.index("magnitude")]) - {"schedule"}
    return {key: value for key, value in point(method).items() if key in about}


def _ultraimage(method: UltraImage) -> Keys:
    shift = method.hand_schedule(True)
    keys: Keys = {"schedule": shift} if isinstance(shift, str) else {"schedule": "pinned", "shift": shift}
    if method.focus or method.proportional_attention:
        keys |= _pattern(method, "correction", "margin", "pairs", "shift", "steps", "guidance")
    if method.direct is not None:
        return keys | _positions(method.direct)
    keys["text"] = "shared"
    if method.correction == "none":
        return keys
    keys |= {"frequencies": "dominant", "correction": method.correction, "pairs": method.pairs}
    if method.correction == "code" and not published(method.geometry).interpolates:
        keys["margin"] = method.margin
    return keys


def _attention(method: Borrowing, own: str = "base") -> Keys:
    """The point of a method that is an attention pattern, with the kind of frequencies it has of its own."""
    keys = {"frequencies": own} if method.direct is None else _positions(method.direct)
    return keys | _pattern(method)


def _positions(method: Method) -> Keys:
    """The point of a method whose positions are taken, and nothing else of it."""
    return {key: value for key, value in point(method).items() if key not in ("schedule", "shift", "attention_of")}


def _pattern(method: Borrowing, *elsewhere: str) -> Keys:
    """The attention of a method. Keys `elsewhere` are dealt with; others at a value that can't be said are refused."""
    theirs = {there: ours for ours, there in PATTERN_KEYS[method.name].items()}
    default = build_method({"name": method.name}, method.geometry).parameters()
    changed = {key: value for key, value in method.parameters().items() if value != default[key]}
    for key in changed.keys() - {*theirs, *elsewhere, "positions_of", "schedule"}:
        raise RequestError(f"{method.name}: {key}={changed[key]} has no counterpart in mix")
    return {"attention_of": method.name} | {theirs[key]: value for key, value in changed.items() if key in theirs}


POINTS: dict[str, Callable[[Any], Keys]] = {
    "vanilla": lambda method: {},
    "pi": lambda method: {"frequencies": "pi"},
    "ntk": lambda method: {"frequencies": "ntk"},
    "yarn": _yarn,
    "dype": _dype,
    "sigma": _sigma,
    "tasr": _tasr,
    "vision_yarn": _vision_yarn,
    "sega": _sega,
    "window": _attention,
    "resdit": lambda method: _attention(method, own="pi"),
    "area": _attention,
    "ultraimage": _ultraimage,
}
"""What makes the point of each method."""
