"""SigMa (2026): DyPE's idea on another clock, a sigmoid in the log-odds of the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sega.errors import RequestError
from sega.methods.base import Method, uniform_axis
from sega.methods.parameters import choice, number
from sega.methods.types import Axis


@dataclass(frozen=True)
class SigMa(Method):
    """YaRN or NTK whose strength follows sigmoid(rate * (logit sigma - logit centre)).

    `centre` and `rate` are by default those of the axis: 1/s and sqrt(s), s the ratio to the training side. Source:
    bxuanz/SigMa, flux/transformer_flux.py, commit ae6b741. `rule` says how the clock enters YaRN's turn counts: "code"
    raises them to it, "paper" multiplies them. On NTK there is one rule and no magnitude.

    The code is for FLUX. On Qwen-Image the method is our extension: its training side and the same clock.
    """

    base: str = choice("yarn", "ntk", "yarn", doc="the frequencies whose strength follows the clock")
    rule: str = choice("code", "code", "paper", doc="how the clock enters the turn counts of YaRN")
    centre: float | str = number("auto", "auto", low=0, high=1, doc="sigma at which the clock is 1/2; auto: 1/s")
    rate: float | str = number("auto", "auto", low=0, doc="slope of the clock; auto: sqrt(s)")
    magnitude: str = choice(
        "clock",
        "clock",
        "constant",
        doc="that of YaRN; clock: 1 + 0.1 ln s times the clock (code); constant: 1 + 0.1 ln s",
    )

    name: ClassVar[str] = "sigma"

    def check(self) -> None:
        for key, default in (("rule", "code"), ("magnitude", "clock")):
            value = getattr(self, key)
            if self.base == "ntk" and value != default:
                raise RequestError(f"sigma: {key}={value} is of base=yarn; leave {key} out with base=ntk")

    def needs(self) -> set[str]:
        return {"sigma"}

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        from sega.formulas import rope

        centre, rate = (None if value == "auto" else float(value) for value in (self.centre, self.rate))
        theta, clock = self.geometry.theta, rope.sigmoid_clock(scale, sigma, centre, rate)
        if self.base == "ntk":
            return uniform_axis(rope.sigma_ntk(dim, theta, scale, clock))
        share = clock if self.magnitude == "clock" else 1.0
        frequencies = rope.sigma_yarn(dim, theta, scale, self.geometry.train_tokens, clock, self.rule)
        return uniform_axis(frequencies, 1 + (rope.attention_magnitude(scale) - 1) * share)
