"""NTK-aware scaling, in the static form of the DyPE code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sega.methods.base import Method, uniform_axis
from sega.methods.types import Axis


@dataclass(frozen=True)
class NTK(Method):
    """Base multiplied by scale^(D/(D-2)). SEGA's own frequencies use about twice this exponent."""

    name: ClassVar[str] = "ntk"

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        from sega.formulas import rope

        return uniform_axis(rope.ntk(dim, self.geometry.theta, scale))
