"""Position interpolation (Chen et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sega.methods.base import Method, uniform_axis
from sega.methods.types import Axis


@dataclass(frozen=True)
class PI(Method):
    """Every frequency divided by the axis's ratio to the training side, which squeezes the positions back into it."""

    name: ClassVar[str] = "pi"

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        from sega.formulas import rope

        return uniform_axis(rope.pi(dim, self.geometry.theta, scale))
