"""DyPE (Issachar et al. 2025): extrapolation strong at the first steps, gone at the last."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from sega.errors import RequestError
from sega.methods.base import Method, uniform_axis
from sega.methods.types import Axis


@dataclass(frozen=True)
class DyPE(Method):
    """YaRN or NTK whose strength follows lambda_s * sigma^lambda_t.

    "auto" values are settled on construction, so the fields always hold the values in force:
    `lambda_s` 2, but 1 on YaRN with `rule` product; `time` sigma on FLUX and as_run on Qwen-Image, whose published run
    divides the time by 1000 again and inverts it, which makes the method static; `schedule` stock with as_run, as in
    that run, else pinned.

    `rule` says how the strength enters YaRN's turn counts: "product" (the code since February 2026, and the second
    version of the paper) multiplies them, "power" (the code before) raises them to it. Which of the two made the
    published numbers is not known. NTK has one rule only.
    """

    schedule: str = "auto"
    base: str = "yarn"
    lambda_s: float | str = "auto"
    lambda_t: float = 2.0
    rule: str = "product"
    time: str = "auto"

    name: ClassVar[str] = "dype"
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = Method.CHOICES | {
        "base": ("ntk", "yarn"),
        "rule": ("product", "power"),
        "time": ("sigma", "as_run"),
    }
    NUMBERS: ClassVar[dict[str, tuple[float, float]]] = {"lambda_s": (0, math.inf), "lambda_t": (0, math.inf)}

    def __post_init__(self) -> None:
        if self.time == "auto":
            object.__setattr__(self, "time", "as_run" if self.geometry.family == "qwen" else "sigma")
        if self.time == "as_run" and self.geometry.family != "qwen":
            raise RequestError("dype: time=as_run is the state of the Qwen-Image code; use time=sigma with this model")
        if self.schedule == "auto":
            object.__setattr__(self, "schedule", "stock" if self.time == "as_run" else "pinned")
        if self.lambda_s == "auto":
            object.__setattr__(self, "lambda_s", 1.0 if (self.base, self.rule) == ("yarn", "product") else 2.0)
        super().__post_init__()
        if self.base == "ntk" and self.rule == "power":
            raise RequestError("dype: rule=power is a rule of base=yarn; leave rule out with base=ntk, which has one")

    def needs(self) -> set[str]:
        return {"sigma"}

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        from sega.formulas import rope

        time = 1 - sigma / 1000 if self.time == "as_run" else sigma
        theta, strength = self.geometry.theta, (self.lambda_s, self.lambda_t)
        if self.base == "ntk":
            return uniform_axis(rope.dype_ntk(dim, theta, scale, time, *strength))
        frequencies = rope.dype_yarn(dim, theta, scale, self.geometry.train_tokens, time, *strength, self.rule)
        return uniform_axis(frequencies, rope.attention_magnitude(scale))
