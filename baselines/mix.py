"""mix: one method that contains the direct ones, for searches between and beyond them. No published method.

`points.py` says where the published methods lie in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError
from sega.methods.base import Attention, Method, check_grid, check_sigma, uniform_axis
from sega.methods.parameters import choice, count, flag, number, numbers, parameters_of
from sega.methods.registry import build_method
from sega.methods.sega import SEGA
from sega.methods.types import ImageRequest, Rope, Stage, Step

from .dype import AS_RUN
from .kernels.idle import SPECTRAL, idle
from .kernels.mixture import BY_RATIO, clock, mixture, ratios, stretches
from .ultraimage import UltraImage, dominant_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from sega.formulas.work import Attended
    from sega.methods.types import Generation

KINDS = ("base", *BY_RATIO, "ntk_sega", "ntk_sega_plain", "dominant")
PATTERN_KEYS = {
    "window": {"side": "side", "halo": "halo"},
    "resdit": {"side": "side"},
    "area": {"halo": "halo", "coarse_above": "switch", "budget": "budget"},
    "ultraimage": {},
}
"""Methods whose attention can be taken, and which keys are handed to them, by the names they have there."""


@dataclass(frozen=True)
class Mix(Method):
    """Frequencies, their clock, magnitudes and attention, each chosen by itself; the defaults are the model as it is.

    Frequencies are first^w second^(1 - w) for each pair, w = `share`: `frequencies` alone at 1, the `second` at 0.
    `clock` is a number c(sigma) in 0..1, by default 1. With clock_on=share, w = share * c. Else c acts inside the kind
    by kappa = strength * c: on the turn counts r of YaRN ("turns": kappa r, r^kappa, or SigMa's rule), on the exponent
    of its NTK part ("ntk_term") or on both, or on the ratio s ("ratio": max(1, kappa s)).

    Magnitudes are a reference (1, 1 + kappa ln s or s^kappa, of which `magnitude_clock` lets the part beyond 1 follow
    c) and, with an `amplitude`, SEGA's spectral part around it. Attention is that of a pattern, whose keys left at
    null are those of its method; windows see these positions, AReA's coarse keys and ResDiT's patches have their own.

    A key that can change nothing beside the others is refused (`kernels/idle.py`). That is decided by words alone, so
    that a number may be at an end of its range: share=1 or amplitude=0.
    """

    frequencies: str = choice("base", *KINDS, doc="first kind of frequencies; base: the model's own")
    second: str = choice("base", *KINDS, doc="second kind, mixed with the first")
    share: float | None = number(
        None, low=0, optional=True, doc="of the first kind, an exponent, above 1 beyond it; null: 1, and no mixture"
    )
    mixed: str = choice("both", "both", "longer", "shorter", doc="axes that are mixed; others keep the first")
    ratio: str = choice(
        "own",
        "own",
        "longer",
        "area",
        "split",
        doc="to the training side; own: each axis its own; longer: that of the longer side; area: root of the ratio of "
        "areas; split: own for interpolation, longer for changes of the base",
    )
    correction: str = choice("code", "code", "paper", doc="of dominant, as in ultraimage")
    margin: float = number(0.85, low=0.01, high=1, doc="of dominant by code, as in ultraimage")
    pairs: tuple[int, ...] | None = numbers(
        None, whole=True, empty=True, optional=True, doc="of dominant; null: as in ultraimage"
    )

    clock: str = choice(
        "none",
        "none",
        "power",
        "sigmoid",
        "switch",
        doc="none: 1; power: sigma^exponent (DyPE); sigmoid: in the log-odds of sigma (SigMa); switch: 1 above centre, "
        "else 0 (TASR)",
    )
    clock_on: str = choice(
        "share", "share", "turns", "ntk_term", "both", "ratio", "nothing", doc="what of the frequencies follows it"
    )
    rule: str = choice(
        "product", "product", "power", "sigma", doc="how it enters turn counts; sigma: as rule=code of sigma"
    )
    strength: float | None = number(
        None, low=0, optional=True, doc="what the clock is multiplied by inside a kind; null: 1"
    )
    exponent: float = number(2.0, low=0, doc="of the power clock")
    centre: float | str = number("auto", "auto", low=0, high=1, doc="sigma of sigmoid and switch; auto: 1/s")
    rate: float | str = number("auto", "auto", low=0, doc="slope of the sigmoid; auto: sqrt(s)")
    time: str = choice("sigma", "sigma", "as_run", doc="of the power clock; as_run: as in dype, Qwen-Image only")

    magnitude: str = choice("none", "none", "log", "power", doc="none: 1; log: 1 + kappa ln s; power: s^kappa")
    kappa: float | None = number(
        None, low=0, optional=True, doc="of the magnitude; null: 0.1 (YaRN) with log, 0.08 (SEGA) with power"
    )
    magnitude_ratio: str = choice(
        "own",
        "own",
        "longer",
        "area",
        "sega",
        doc="s of the magnitude; sega: as in sega, to its training side",
    )
    magnitude_clock: bool = flag(False, doc="whether the magnitude follows the clock")
    magnitude_start: float = number(1.0, low=0.001, high=1, doc="sigma below which it fades by the power clock")
    amplitude: float | None = number(None, low=0, optional=True, doc="size of SEGA's spectral part; null: none")
    gain: float = number(1.5, low=0, doc="g in tanh(g z) of the spectral part")
    floor: float | None = number(1.0, low=0, optional=True, doc="least magnitude with a spectral part")
    gamma: float = number(1.5, low=0, doc="exponent of the flatness in the strength of the spectral part")
    spread_min: float = number(0.0, low=0, doc="strength of the spectral part on a flat spectrum")
    spread_max: float = number(1.0, low=0, doc="strength of the spectral part on a spectrum with one peak")
    source: str = choice("embedded", "embedded", "latent", doc="what is analysed, as in sega")
    batch: str = choice("sample", "sample", "joint", doc="joint: the mean over the batch is analysed")
    band_map: str = choice("rank", "rank", "physical", doc="bin of a pair, as in sega")
    binning: str = choice("reference", "reference", "exact", doc="of spectra, as in sega")
    tie_axes: bool = flag(False, doc="Qwen-Image only: height takes the magnitudes of width, as in sega")
    text: str = choice("auto", "own", "shared", doc="table of the text; auto: the model's own where it has one")

    attention_of: str = choice("own", "own", *PATTERN_KEYS, doc="whose attention applies; own: the model's")
    side: int | None = count(None, optional=True, doc="tokens of a window or patch (window, resdit)")
    halo: int | None = count(None, low=0, optional=True, doc="tokens that keys reach beyond a window (window, area)")
    coarse_above: float | None = number(None, low=0, high=1, optional=True, doc="switch of area")
    budget: float | None = number(None, low=0.01, high=1, optional=True, doc="of a step, as in area")
    shift: float | None = number(None, low=0.01, optional=True, doc="static time shift beyond the training area")

    name: ClassVar[str] = "mix"

    def settle(self) -> dict[str, Any]:
        return {
            "pairs": dominant_pairs(self.geometry) if "dominant" in self.kinds else None,
            "kappa": {"log": 0.1, "power": 0.08}.get(self.magnitude),
            "text": "own" if self.geometry.facts.text == "own" else "shared",
        }

    def check(self) -> None:
        for key, need in idle(self).items():
            value = getattr(self, key)
            if value != self.neutral[key]:
                raise RequestError(f"mix: {key}={value} has no effect without {need}; leave it out")
        if self.mixes and self.frequencies == self.second:
            raise RequestError(
                f"mix: frequencies and second are both {self.second}; a share or a clock on it needs two"
            )
        if self.time == "as_run" and self.geometry.family not in AS_RUN:
            raise RequestError("mix: time=as_run is the state of DyPE's Qwen-Image code; leave it out with this model")
        if self.text == "own" and self.geometry.facts.text != "own":
            raise RequestError("mix: the text of this model has no table of its own; leave text out")
        _ = self.spectral, self.pattern, "dominant" not in self.kinds or self.dominant  # which check what is theirs

    @property
    def neutral(self) -> dict[str, Any]:
        """The value of each key where it is not given beside the others."""
        return {key: default for key, (default, _) in parameters_of(type(self)).items()} | self.settle()

    @property
    def mixes(self) -> bool:
        """Whether the second kind counts."""
        return self.share is not None or (self.clock != "none" and self.clock_on == "share")

    @property
    def kinds(self) -> set[str]:
        """The kinds of frequencies that count."""
        return {self.frequencies, self.second} if self.mixes else {self.frequencies}

    @cached_property
    def spectral(self) -> SEGA:
        """SEGA with these keys, for magnitudes."""
        keys = {key: getattr(self, key) for key in (*SPECTRAL, "tie_axes")}
        keys |= {key: getattr(self, key) or 0.0 for key in ("amplitude", "kappa")}
        return SEGA(self.geometry, m_ref="log" if self.magnitude == "log" else "power", **keys)

    @cached_property
    def dominant(self) -> UltraImage:
        """UltraImage with these keys, for frequencies."""
        keys = {key: getattr(self, key) for key in ("correction", "margin", "pairs")}
        return UltraImage(self.geometry, focus=False, **keys)

    @cached_property
    def pattern(self) -> Method | None:
        """The method that `attention_of` names, with the keys that are given; None for the model's own attention."""
        if self.attention_of == "own":
            return None
        keys = {theirs: getattr(self, ours) for ours, theirs in PATTERN_KEYS[self.attention_of].items()}
        given = {key: value for key, value in keys.items() if value is not None}
        return build_method({"name": self.attention_of, **given}, self.geometry)

    def sega_ntk(self, kind: str) -> SEGA:
        """SEGA, for its NTK frequencies by code or, "ntk_sega_plain", with the plain factor."""
        return SEGA(self.geometry, ntk="plain" if kind == "ntk_sega_plain" else "code")

    def needs(self) -> set[str]:
        spectral = self.spectral.needs() if self.magnitude != "none" else set()
        return spectral | (set() if self.clock == "none" else {"sigma"})

    def references(self, grid: tuple[int, int], sigma: float) -> tuple[float, float]:
        """Uniform magnitude of height and width at time sigma."""
        if self.magnitude == "none":
            return 1.0, 1.0
        from sega.formulas.rope import reference_magnitude

        scales = self.spectral.scales(grid)
        if self.magnitude_ratio != "sega":
            scales = ratios(self.magnitude_ratio, grid, self.geometry.train_tokens)
        form = self.spectral.m_ref
        height, width = (reference_magnitude(max(scale, 1.0), self.kappa, form) for scale in scales)
        if not self.magnitude_clock:
            return height, width
        first, second = (clock(self, s, sigma, self.magnitude_start) for s in stretches(self, grid)[0])
        return 1 + (height - 1) * first, 1 + (width - 1) * second

    def positions(self, grid: tuple[int, int], sigma: float = 1.0, tokens: Tensor | None = None) -> Rope:
        """Rotary values; `tokens` as in SEGA, with an `amplitude` only. `details` hold what it saw of the latent."""
        grid, sigma = check_grid(grid), check_sigma(sigma)
        references = self.references(grid, sigma)
        uniform = [uniform_axis(*axis) for axis in zip(mixture(self, grid, sigma), references, strict=True)]
        axes, seen = self.spectral.guided(uniform, references, grid, tokens)
        return self.rope(axes[0], axes[1], text="base" if self.text == "own" else "shared", details=seen)

    def stages(self, request: ImageRequest) -> list[Stage]:
        beyond = math.prod(request.size) > (self.geometry.train_tokens * self.geometry.token_pixels) ** 2
        return [Stage(request.size, request.steps, request.guidance, self.hand_schedule(beyond))]

    def hand_schedule(self, beyond: bool) -> str | float:
        return self.shift if beyond and self.shift is not None else self.schedule

    def attended(self, step: Step, text: int, gpu: bool = False) -> Attended:
        return (self.pattern.attended if self.pattern else super().attended)(step, text, gpu)

    def probes(self, step: Step) -> bool:
        return self.pattern is not None and self.pattern.probes(step)

    def attention(self, index: int, generation: Generation | None) -> Attention | None:
        return None if self.pattern is None else self.pattern.attention(index, generation)

    def sentences(self) -> tuple[str, ...]:
        return () if self.pattern is None else self.pattern.sentences()
