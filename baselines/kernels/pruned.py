"""Attention that keeps text, a band of blocks, and every so many blocks (HRDiT's HAP).

Joint sequences are text first, then image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sega.formulas.work import Attended, dense

from .flex import compiled

if TYPE_CHECKING:
    from torch import Tensor

TILE = 128  # tokens of a tile of FlexAttention's kernels
ROWS = 1024  # queries of a chunk of plain kernels


def band_blocks(length: int, alpha: float, beta: float, block: int = 64) -> int:
    """w = max(2 floor(floor(alpha/block) + beta floor(N/block)) - 1, 1): width in blocks of a head's band."""
    return max(2 * math.floor(alpha // block + beta * (length // block)) - 1, 1)


def band_half(length: int, alpha: float, beta: float, block: int = 64) -> int:
    """Blocks of the band on each side of a block."""
    return (band_blocks(length, alpha, beta, block) - 1) // 2


def is_kept(q, k, text: int, half, block: int, stride: int):
    """Whether pairs (q, k) of positions in a joint sequence are kept; the rule that everything here follows.

    A pair is kept if either is text (the first `text` tokens), or if their blocks are at most `half` a band apart, or
    if the block of k is a multiple of `stride`. Blocks are counted from the first image token, as in the code.
    """
    of_q, of_k = (q - text) // block, (k - text) // block
    return (q < text) | (k < text) | ((of_q - of_k).abs() <= half) | (of_k % stride == 0)


def hap_chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    text: int,
    halves: list[int],
    block: int,
    stride: int,
    scale: float,
    rows: int | None = None,
) -> Tensor:
    """Attention over the pairs that `is_kept` keeps, by plain kernels; q, k, v and the result are [B, heads, N, d].

    Queries go in chunks of about `rows`, `ROWS` unless given; for each, only the keys some head keeps are gathered,
    and a mask of chunk x gathered keys tells heads and blocks apart. Memory grows with N. Text queries attend to
    everything.
    """
    import torch
    import torch.nn.functional as F

    length, device = q.shape[2], q.device
    out = torch.empty_like(q)
    out[:, :, :text] = F.scaled_dot_product_attention(q[:, :, :text], k, v, scale=scale)
    index = torch.arange(length, device=device)
    widest = max(halves)
    half = torch.tensor(halves[:1] if len(set(halves)) == 1 else halves, device=device)[:, None, None]
    blocks = (index - text) // block
    step = max(1, (rows or ROWS) // block) * block
    for start in range(text, length, step):
        stop = min(start + step, length)
        distance = torch.maximum(blocks[start] - blocks, blocks - blocks[stop - 1])
        keys = index[(index < text) | (distance <= widest) | (blocks % stride == 0)]
        mask = is_kept(index[start:stop, None], keys[None, :], text, half, block, stride)
        out[:, :, start:stop] = F.scaled_dot_product_attention(
            q[:, :, start:stop], k[:, :, keys], v[:, :, keys], attn_mask=mask, scale=scale
        )
    return out


@lru_cache(maxsize=64)
def pruned_attended(
    length: int, text: int, half: int, block: int, stride: int, flex: bool, rows: int = 1024
) -> Attended:
    """What a layer does, for estimates of cost.

    `hap_chunked` multiplies each chunk with all the keys it gathers, the kernels of `flex` whole tiles.
    """
    if flex:
        return Attended(0, vectors=4 * length, flex=TILE**2 * kept_tiles(length, text, half, block, stride))
    blocks = [min(block, length - start) for start in range(text, length, block)]
    together = max(1, rows // block)
    masked = gathered = 0
    for first in range(0, len(blocks), together):
        last = min(first + together, len(blocks)) - 1
        near = sum(blocks[max(0, first - half) : last + half + 1])
        far = sum(blocks[k] for k in range(0, len(blocks), stride) if not first - half <= k <= last + half)
        masked += sum(blocks[first : last + 1]) * (text + near + far)
        gathered += text + near + far
    copies = 2 * length + 2 * 3 * gathered  # of queries, keys and values
    return dense(text, length) + Attended(
        masked, vectors=copies, masked=masked, kernels=55 * -(-len(blocks) // together)
    )


def kept_tiles(length: int, text: int, half: int, block: int, stride: int) -> int:
    """How many tiles of FlexAttention keep a pair; a tile may have parts of several blocks."""
    tiles = -(-length // TILE)
    spans = [
        (max(0, start - text) // block, (min(start + TILE, length) - 1 - text) // block)
        for start in range(0, length, TILE)
    ]
    textual = -(-text // TILE)
    kept = textual * tiles
    for first, last in spans[textual:]:
        kept += textual
        for low, high in spans[textual:]:
            strided = high // stride * stride >= low
            kept += strided or (low <= last + half and high >= first - half)
    return kept


def hap_block_mask(length: int, text: int, halves: list[int], block: int, stride: int, device=None):
    """The rule of `is_kept` as a BlockMask for FlexAttention, made from blocks: no N x N mask exists on the way.

    Tiles have 128 tokens, the size the kernels of FlexAttention expect, and start at the first token of text, so that a
    block may lie in two of them. Its head dimension is 1 where all heads have the same band.
    """
    import torch
    from torch.nn.attention.flex_attention import BlockMask

    same = len(set(halves)) == 1
    half = torch.tensor(halves, device=device)
    pieces = torch.tensor(_pieces(length, text, block), device=device)
    tiles, most = pieces.shape
    q, k = pieces.flatten()[:, None], pieces.flatten()[None, :]
    inside = (q < length) & (k < length)
    kept_pieces = torch.stack([is_kept(q, k, text, h, block, stride) & inside for h in halves[: 1 if same else None]])
    tiled = kept_pieces.unflatten(2, (tiles, most)).unflatten(1, (tiles, most)).transpose(2, 3).flatten(3)

    def rows(tiles: Tensor) -> tuple[Tensor, Tensor]:
        return tiles.sum(-1)[None].int(), tiles.int().argsort(dim=-1, descending=True, stable=True)[None].int()

    full = tiled.all(-1)
    partial = tiled.any(-1) & ~full

    def kept(batch, head, q, k):
        return is_kept(q, k, text, halves[0] if same else half[head], block, stride)

    sizes = {"BLOCK_SIZE": TILE, "mask_mod": kept, "seq_lengths": (length, length)}
    return BlockMask.from_kv_blocks(*rows(partial), *rows(full), **sizes)


def _pieces(length: int, text: int, block: int) -> list[list[int]]:
    """First tokens of the pieces of every tile: text, blocks and what lies beyond the sequence, cut at the tiles.

    The rule on pairs is the same for all tokens of a piece. Tiles with fewer pieces repeat their last one.
    """
    end = -(-length // TILE) * TILE
    starts = sorted({*range(0, end, TILE), *range(text, length, block), length} - {end})
    pieces = [[start for start in starts if tile <= start < tile + TILE] for tile in range(0, end, TILE)]
    most = max(map(len, pieces))
    return [items + items[-1:] * (most - len(items)) for items in pieces]


@lru_cache(maxsize=4)
def flex_attention(length: int, text: int, half: int, block: int, stride: int, device) -> tuple[Callable, Any]:
    """FlexAttention, compiled, and its block mask. Kept, because the mask takes a while to make."""
    return compiled(), hap_block_mask(length, text, [half], block, stride, device)
