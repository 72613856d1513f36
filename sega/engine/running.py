"""One transformer call while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from sega.methods.geometry import Geometry
from sega.methods.types import PositionSource, Rope, Step
from sega.models.base import Adapter


@dataclass
class RunningCall:
    """Holds what positions and attention need of the running call."""

    adapter: Adapter
    source: PositionSource
    geometry: Geometry
    step: Step
    call: dict[str, Any]
    """The arguments of the transformer by name."""
    tokens: Tensor | None = None
    """Embedded tokens of one sample, float32 [H*W, C], until the positions that need them are computed."""
    saved: int = 0
    """Pairs of queries and keys of one sample that attention left out, over all layers."""

    @property
    def image_length(self) -> int:
        """Image tokens, those of reference images included."""
        return self.call["hidden_states"].shape[1]

    @cached_property
    def rope(self) -> Rope:
        """The positions, computed when they are first asked for: by then the tokens of the call are embedded."""
        content, self.tokens = self.tokens, None  # larger than most of what a block makes
        if "latent" in self.source.needs():
            content = self.step.latent
        return self.source.positions(self.step.grid, self.step.sigma, content)

    def table(self, ids: Tensor, rope: Rope | None = None) -> Any:
        """What rotates at position ids [N, 3], by the positions of this call or by `rope`."""
        return self.adapter.table(rope or self.rope, self.geometry, ids)
