"""vision_yarn, the default method of ComfyUI-DyPE: YaRN by axis and by grid, fading with time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sega.methods.base import Method, uniform_axis
from sega.methods.parameters import number
from sega.methods.types import Axis


@dataclass(frozen=True)
class VisionYaRN(Method):
    """Slow pairs are interpolated by the ratio of their axis; NTK part and magnitude have that of the longer side.

    An axis at its training side is therefore changed when the other is longer, as in the code. Turn counts follow the
    time as in DyPE's rule=power, and the magnitude fades from `start_sigma` on with the same exponent. Source:
    wildminder/ComfyUI-DyPE, src/base.py, commit 3fd9149; no paper.

    On a GPU that code computes FLUX's frequencies in bfloat16; ours are float64 everywhere. On Qwen-Image text keeps
    its own table here, as under all our methods that follow DyPE.
    """

    lambda_s: float = number(2.0, low=0, doc="exponent of the turn counts at sigma 1")
    lambda_t: float = number(2.0, low=0, doc="exponent of sigma, for turn counts and magnitude")
    start_sigma: float = number(1.0, low=0.001, high=1, doc="time below which the magnitude fades")

    name: ClassVar[str] = "vision_yarn"

    def needs(self) -> set[str]:
        return {"sigma"}

    def axes(self, grid: tuple[int, int], sigma: float) -> tuple[Axis, Axis]:
        from sega.formulas import rope

        ratios, theta, train = self.scales(grid), self.geometry.theta, self.geometry.train_tokens
        longer, strength = max(ratios), (sigma, self.lambda_s, self.lambda_t)
        if longer <= 1:
            return super().axes(grid, sigma)
        magnitude = rope.vision_yarn_magnitude(longer, sigma, self.start_sigma, self.lambda_t)
        height, width = (
            uniform_axis(rope.vision_yarn(dim, theta, max(1.0, ratio), longer, train, *strength), magnitude)
            for dim, ratio in zip(self.geometry.axes[1:], ratios, strict=True)
        )
        return height, width
