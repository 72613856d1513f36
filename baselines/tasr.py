"""TASR, the time-aware scaled rotary positions of Lumina-Next (2024): first interpolation, then NTK."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from sega.methods.base import Method, uniform_axis
from sega.methods.parameters import number
from sega.methods.types import Axis


@dataclass(frozen=True)
class TASR(Method):
    """Position interpolation until the watershed, a change of the base after it; one ratio for both axes.

    The ratio is the square root of the ratio of areas, so an axis at its training side is changed too. `watershed` is a
    time of Lumina, which runs from 0 at noise to 1 at the image: interpolation holds while sigma > 1 - watershed. 0.3
    is what the project's own scripts use; the default of diffusers' pipeline, 1, is interpolation throughout.

    The code (Alpha-VLLM/Lumina-T2X) is for Lumina-Next; on FLUX and Qwen-Image the rule is the same with their training
    sides. Unlike the code, ours leaves images of at most the training area alone.
    """

    watershed: float = number(0.3, low=0, high=1, doc="time of the change, from 0 (noise) to 1 (image)")

    name: ClassVar[str] = "tasr"

    def needs(self) -> set[str]:
        return {"sigma"}

    def scales(self, grid: tuple[int, int]) -> tuple[float, float]:
        ratio = math.sqrt(grid[0] * grid[1]) / self.geometry.train_tokens
        return ratio, ratio

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        from sega.formulas import rope

        return uniform_axis(rope.tasr(dim, self.geometry.theta, scale, 1 - sigma, self.watershed))
