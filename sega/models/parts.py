"""Elementwise work on long sequences, some heads at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LONG = 8192
"""Tokens above which it is divided."""
PARTS = 4


def in_parts(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`run(x)` of x [B, N, heads, d], for which heads do not depend on each other; the same bits.

    Rotation and normalisation in float32 take up to ten times the bytes of x for a moment: at 4096 px as much as all
    the rest of a block.
    """
    if x.shape[1] <= LONG:
        return run(x)
    return torch.cat([run(part) for part in x.chunk(PARTS, 2)], 2)
