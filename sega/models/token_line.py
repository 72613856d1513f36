"""How pipelines draw the time shift mu from the size of the image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sega.formulas.schedules import mu_for_tokens


class TokenLine:
    """The shift mu of pipelines that draw it as a line over image tokens, with the constants of the scheduler."""

    def __init__(self, config: Mapping[str, Any]):
        self.config = config

    def mu(self, tokens: int, steps: int) -> float:
        """What the pipeline computes for an image of this many tokens, in this many steps."""
        config = self.config
        return mu_for_tokens(
            tokens,
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
        )

    def pinned(self, steps: int) -> float:
        """That of the training size."""
        return self.config.get("max_shift", 1.15)

    def beyond(self, mu: float, steps: int) -> bool:
        """Whether a pipeline that computed this mu makes an image larger than the training size."""
        return mu > self.pinned(steps) * (1 + 1e-12)
