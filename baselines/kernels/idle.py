"""Which keys of `mix` can change nothing beside the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..ultraimage import published
from .mixture import BY_RATIO

if TYPE_CHECKING:
    from ..mix import Mix

Rule = tuple[bool, str, tuple[str, ...]]
"""Whether it holds, what it is in words, and the keys that count only where it holds."""
SPECTRAL = ("gain", "floor", "gamma", "spread_min", "spread_max", "source", "batch", "band_map", "binning")
"""Keys of SEGA's spectral part beside its amplitude."""


def idle(method: Mix) -> dict[str, str]:
    """The keys that have to keep their defaults, and what each would need to count."""
    rules = [*_of_frequencies(method), *_of_clock(method), *_of_magnitude(method), *_of_attention(method)]
    return {key: need for holds, need, keys in rules if not holds for key in keys}


def _of_frequencies(method: Mix) -> list[Rule]:
    kinds, follows_ratio = method.kinds, method.clock in ("sigmoid", "switch") and method.centre == "auto"
    follows_ratio |= method.clock == "sigmoid" and method.rate == "auto"
    by_margin = method.correction == "code" and not published(method.geometry).interpolates
    return [
        (method.mixes, "a share or a clock on it", ("second", "mixed")),
        (
            bool(kinds & {*BY_RATIO}) or follows_ratio,
            f"frequencies of {', '.join(BY_RATIO)}, or a clock that follows s",
            ("ratio",),
        ),
        ("dominant" in kinds, "frequencies=dominant", ("correction", "margin", "pairs")),
        (by_margin, "correction=code and a model other than Qwen-Image", ("margin",)),
    ]


def _of_clock(method: Mix) -> list[Rule]:
    clock, on, timed = method.clock, method.clock_on, method.clock != "none"
    kinds, inside = method.kinds, on in ("turns", "ntk_term", "both", "ratio")
    moved = timed or (inside and (method.strength is not None or method.rule == "sigma"))
    target = {"share": True, "nothing": method.magnitude_clock, "ratio": bool(kinds & {*BY_RATIO})}
    return [
        (
            moved and target.get(on, "yarn" in kinds),
            "a clock and kinds of frequencies, or a magnitude, that it can act on",
            ("clock_on",),
        ),
        (on in ("turns", "both"), "clock_on=turns or both", ("rule",)),
        (inside, "clock_on=turns, ntk_term, both or ratio", ("strength",)),
        (clock == "power", "clock=power", ("exponent", "time")),
        (clock in ("sigmoid", "switch"), "clock=sigmoid or switch", ("centre",)),
        (clock == "sigmoid", "clock=sigmoid", ("rate",)),
    ]


def _of_magnitude(method: Mix) -> list[Rule]:
    fades = method.magnitude_clock and method.clock == "power"
    return [
        (method.clock != "none", "a clock", ("magnitude_clock",)),
        (fades, "magnitude_clock and clock=power", ("magnitude_start",)),
        (
            method.magnitude != "none",
            "magnitude=log or power",
            ("kappa", "magnitude_ratio", "magnitude_clock", "amplitude", "tie_axes"),
        ),
        (method.geometry.facts.ratio == "each", "a model whose axes have ratios of their own", ("tie_axes",)),
        (method.amplitude is not None, "an amplitude", SPECTRAL),
    ]


def _of_attention(method: Mix) -> list[Rule]:
    of = method.attention_of
    return [
        (of in ("window", "resdit"), "attention_of=window or resdit", ("side",)),
        (of in ("window", "area"), "attention_of=window or area", ("halo",)),
        (of == "area", "attention_of=area", ("coarse_above", "budget")),
        (method.shift is None, "shift=null", ("schedule",)),
    ]
