"""Large images through an autoencoder in overlapping tiles.

The tilers of diffusers leave whatever remains as the last tile, at some sizes a strip of a few pixels, decoded
without its surroundings. Here all tiles of an axis are equally long.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

OVERLAP = 256  # px; neighbours are blended linearly over it, each fading out towards its own border


def spans(length: int, side: int, overlap: int) -> list[tuple[int, int]]:
    """(start, end) of the fewest tiles of at most `side` that cover `length`, overlapping by at least `overlap`."""
    if length <= side:
        return [(0, length)]
    count = math.ceil((length - overlap) / (side - overlap))
    tile = math.ceil((length + (count - 1) * overlap) / count)
    starts = [i * (length - tile) // (count - 1) for i in range(count)]
    return [(start, start + tile) for start in starts]


def weights(parts: list[tuple[int, int]], scale: int) -> list[Tensor]:
    """The share of each tile in its pixels, `scale` to a cell: linear ramps that add up to 1 everywhere."""
    import torch

    ramps = [torch.ones((end - start) * scale, dtype=torch.float64) for start, end in parts]
    for (left, right), ((_, end), (start, _)) in zip(pairwise(ramps), pairwise(parts), strict=True):
        length = (end - start) * scale
        rising = (torch.arange(length, dtype=torch.float64) + 0.5) / length
        right[:length] *= rising
        left[-length:] *= 1 - rising
    return [ramp.float() for ramp in ramps]


def tiled(run: Callable[[Tensor], Tensor], x: Tensor, cell_in: int, cell_out: int, side: int, overlap: int) -> Tensor:
    """`run(x)` put together from tiles of at most `side` cells, float32.

    A cell is `cell_in` pixels of x [..., H, W] and `cell_out` pixels of the result: 1 and 8 for decoding, 8 and 1 for
    encoding.
    """
    import torch

    rows, columns = (spans(length // cell_in, side, overlap) for length in x.shape[-2:])
    shares = [[share.to(x.device) for share in weights(parts, cell_out)] for parts in (rows, columns)]
    out = None
    for (top, bottom), down in zip(rows, shares[0], strict=True):
        for (left, right), across in zip(columns, shares[1], strict=True):
            tile = x[..., top * cell_in : bottom * cell_in, left * cell_in : right * cell_in]
            part = run(tile).float()
            if out is None:
                shape = (*part.shape[:-2], *(length // cell_in * cell_out for length in x.shape[-2:]))
                out = torch.zeros(shape, device=part.device)
            place = out[..., top * cell_out : bottom * cell_out, left * cell_out : right * cell_out]
            place += part * down[:, None] * across
    return out
