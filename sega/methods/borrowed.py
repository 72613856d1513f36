"""Positions that a method takes from a direct one: the key `positions_of`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sega.methods.base import Method, check_grid, check_sigma
from sega.methods.parameters import choice
from sega.methods.registry import build_method
from sega.methods.types import Rope

if TYPE_CHECKING:
    from torch import Tensor

DIRECT = ("vanilla", "pi", "ntk", "yarn", "dype", "sigma", "tasr", "vision_yarn", "ultraimage", "sega")
"""Methods that are positions first of all; what else they have (UltraImage's attention) stays behind."""


@dataclass(frozen=True)
class Borrowing(Method):
    """A method with parts beside positions, whose positions may be those of a direct method.

    `positions_of` names that method, with its default parameters. Only positions are taken.
    """

    positions_of: str = choice("own", "own", *DIRECT, doc="whose positions apply; own: those of this method")

    @cached_property
    def direct(self) -> Method | None:
        """The method that `positions_of` names; None for the method's own positions."""
        return None if self.positions_of == "own" else build_method({"name": self.positions_of}, self.geometry)

    def positions(self, grid: tuple[int, int], sigma: float = 1.0, tokens: Tensor | None = None) -> Rope:
        if self.direct is not None:
            return self.direct.positions(grid, sigma, tokens)
        check_sigma(sigma)
        return self.own_positions(check_grid(grid))

    def own_positions(self, grid: tuple[int, int]) -> Rope:
        """Positions without `positions_of`; stock by default."""
        return Method.positions(self, grid)

    def needs(self) -> set[str]:
        return self.direct.needs() if self.direct is not None else set()
