"""The model as it is: positions beyond the training grid are simply extrapolated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sega.methods.base import Method


@dataclass(frozen=True)
class Vanilla(Method):
    """Base frequencies, magnitude 1, at every size."""

    name: ClassVar[str] = "vanilla"
