"""DyPE (Issachar et al. 2025): extrapolation strong at the first steps, gone at the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sega.errors import RequestError
from sega.methods.base import Method, uniform_axis
from sega.methods.parameters import choice, number
from sega.methods.types import Axis

AS_RUN = ("qwen",)
"""Families whose published code runs in another state than the paper describes."""


@dataclass(frozen=True)
class DyPE(Method):
    """YaRN, NTK or position interpolation whose strength follows kappa = lambda_s * sigma^lambda_t.

    "auto" values are settled on construction, so the fields always hold the values in force:
    `lambda_s` 2, but 1 on YaRN with `rule` product; `time` sigma on FLUX and as_run on Qwen-Image, whose published run
    divides the time by 1000 again and inverts it, which makes the method static; `schedule` stock with as_run, as in
    that run, else pinned.

    `rule` says how kappa enters YaRN's turn counts: "product" (the code since February 2026, and the second version of
    the paper) multiplies them, "power" (the code before) raises them to it. Which of the two made the published
    numbers is not known.

    The code has YaRN by its turn counts and NTK in its exponential form. Three more are in the paper only: NTK in its
    multiplicative form (version 2, eq. 19, table 6); YaRN by its NTK part (`acts_on`, table 7), where kappa stands as
    in `base` ntk; and position interpolation, omega / s^kappa (eq. 14), on both axes with the ratio s of the longer
    side, as in the only public code of it (wildminder/ComfyUI-DyPE).
    """

    schedule: str = choice("auto", "pinned", "stock", doc="time shift; auto: stock with time=as_run, else pinned")
    base: str = choice("yarn", "ntk", "yarn", "pi", doc="the frequencies whose strength follows the time")
    lambda_s: float | str = number("auto", low=0, doc="strength at sigma 1; auto: 1 on YaRN with rule=product, else 2")
    lambda_t: float = number(2.0, low=0, doc="exponent of sigma")
    rule: str = choice("product", "product", "power", doc="how the strength enters the turn counts of YaRN")
    acts_on: str = choice(
        "thresholds", "thresholds", "ntk_term", "both", later=True, doc="what of YaRN follows the time"
    )
    ntk: str = choice("exponential", "exponential", "multiplicative", later=True, doc="how the strength enters NTK")
    time: str = choice("auto", "sigma", "as_run", doc="as_run: the state of the Qwen-Image code; auto: as_run there")

    name: ClassVar[str] = "dype"

    def settle(self) -> dict[str, Any]:
        default = "as_run" if self.geometry.family in AS_RUN else "sigma"
        time = default if self.time == "auto" else self.time
        return {
            "time": time,
            "schedule": "stock" if time == "as_run" else "pinned",
            "lambda_s": 1.0 if (self.base, self.rule) == ("yarn", "product") else 2.0,
        }

    def check(self) -> None:
        if self.time == "as_run" and self.geometry.family not in AS_RUN:
            raise RequestError("dype: time=as_run is the state of the Qwen-Image code; use time=sigma with this model")
        if self.base != "yarn" and self.rule == "power":
            raise RequestError(f"dype: rule=power is of base=yarn; leave rule out with base={self.base}")
        if self.base != "yarn" and self.acts_on != "thresholds":
            raise RequestError(f"dype: acts_on={self.acts_on} is of base=yarn; leave acts_on out with base={self.base}")
        if self.acts_on == "ntk_term" and self.rule == "power":
            raise RequestError("dype: rule=power is of the turn counts; leave rule out with acts_on=ntk_term")
        if self.base != "ntk" and self.ntk != "exponential":
            raise RequestError(f"dype: ntk={self.ntk} is of base=ntk; leave ntk out with base={self.base}")

    def needs(self) -> set[str]:
        return {"sigma"}

    def scales(self, grid: tuple[int, int]) -> tuple[float, float]:
        height, width = super().scales(grid)
        return (max(height, width),) * 2 if self.base == "pi" else (height, width)

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        from sega.formulas import rope

        time = 1 - sigma / 1000 if self.time == "as_run" else sigma
        theta, strength = self.geometry.theta, (time, self.lambda_s, self.lambda_t)
        if self.base == "pi":
            return uniform_axis(rope.dype_pi(dim, theta, scale, *strength))
        if self.base == "ntk":
            return uniform_axis(rope.dype_ntk(dim, theta, scale, *strength, self.ntk))
        train = self.geometry.train_tokens
        frequencies = rope.dype_yarn(dim, theta, scale, train, *strength, self.rule, self.acts_on)
        return uniform_axis(frequencies, rope.attention_magnitude(scale))
