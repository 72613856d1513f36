"""HRDiT (zylwithxy/HRDiT): HiFlow with bundled position ids at its first steps and, for speed, pruned attention.

Arithmetic first, then the method. Joint sequences are text first, then image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def bundle_size(tokens: int, groups: int) -> int:
    """b = max(1, ceil((n - 1)/(G - 1))): tokens of an axis of n that share a position id."""
    return max(1, math.ceil((tokens - 1) / (groups - 1)))


def bundled_ids(tokens: int, bundle: int, offset: int) -> list[int]:
    """phi_c(x) = 0 for x < c, else ceil((x + 1 - c)/b), for x = 0 ... tokens-1: the first bundle has c tokens."""
    return [0 if x < offset else -((offset - x - 1) // bundle) for x in range(tokens)]


def bundle_offsets(bundles: tuple[int, int]) -> list[tuple[int, int]]:
    """(c_row, c_col) of every variant: (b_r, b_c), then the rows shifted by 1 ... b_r-1, then the columns.

    b_r + b_c - 1 in all; one, with ids unchanged, where both bundles are 1.
    """
    rows, columns = bundles
    return [(rows, columns)] + [(c, columns) for c in range(1, rows)] + [(rows, c) for c in range(1, columns)]


def spa_ids(grid: tuple[int, int], groups: int) -> list[tuple[list[int], list[int]]]:
    """Row ids [H] and column ids [W] of every variant of bundled positions for a grid of H x W tokens."""
    bundles = tuple(bundle_size(side, groups) for side in grid)
    return [
        tuple(bundled_ids(side, b, c) for side, b, c in zip(grid, bundles, offsets, strict=True))
        for offsets in bundle_offsets(bundles)
    ]


def band_blocks(length: int, alpha: float, beta: float, block: int = 64) -> int:
    """w = max(2 floor(floor(alpha/block) + beta floor(N/block)) - 1, 1): width in blocks of a head's band."""
    return max(2 * math.floor(alpha // block + beta * (length // block)) - 1, 1)


def hap_mask(length: int, text: int, halves: list[int], block: int, stride: int) -> Tensor:
    """Pairs that are kept, bool [heads, N, N]; what the functions below must equal. Only for small N.

    A pair (q, k) is kept if either is text (the first `text` tokens), or if their blocks are at most half the band
    apart, or if the block of k is a multiple of `stride`. `halves` is (w - 1)/2 per head.
    """
    import torch

    index = torch.arange(length)
    return torch.stack([_kept(index[:, None], index[None, :], text, half, block, stride) for half in halves])


def _kept(q, k, text: int, half, block: int, stride: int):
    near = (q // block - k // block).abs() <= half
    return (q < text) | (k < text) | near | (k // block % stride == 0)


def hap_chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    text: int,
    halves: list[int],
    block: int,
    stride: int,
    scale: float,
    rows: int = 1024,
) -> Tensor:
    """Attention over the kept pairs of `hap_mask` by plain kernels; q, k, v and the result are [B, heads, N, d].

    Queries go in chunks of about `rows`; for each, only the keys some head keeps are gathered, and a mask of chunk
    x gathered keys tells heads and blocks apart. Memory grows with N. Text queries attend to everything.
    """
    import torch
    import torch.nn.functional as F

    length, device = q.shape[2], q.device
    out = torch.empty_like(q)
    out[:, :, :text] = F.scaled_dot_product_attention(q[:, :, :text], k, v, scale=scale)
    index = torch.arange(length, device=device)
    widest = max(halves)
    half = torch.tensor(halves[:1] if len(set(halves)) == 1 else halves, device=device)[:, None, None]
    step = max(1, rows // block) * block
    edges = [text, *range(text - text % step + step, length, step), length]
    for start, stop in zip(edges, edges[1:], strict=False):
        distance = torch.maximum(start // block - index // block, index // block - (stop - 1) // block)
        keys = index[(index < text) | (distance <= widest) | (index // block % stride == 0)]
        mask = _kept(index[start:stop, None], keys[None, :], text, half, block, stride)
        out[:, :, start:stop] = F.scaled_dot_product_attention(
            q[:, :, start:stop], k[:, :, keys], v[:, :, keys], attn_mask=mask, scale=scale
        )
    return out


def hap_block_mask(length: int, text: int, halves: list[int], block: int, stride: int, device=None):
    """`hap_mask` as a BlockMask for FlexAttention, made from the rule on blocks: no N x N mask exists on the way.

    Tiles are the multiple of `block` next to 128 tokens, the size the kernels of FlexAttention expect. Its head
    dimension is 1 where all heads have the same band.
    """
    import torch
    from torch.nn.attention.flex_attention import BlockMask

    factor = -(-128 // block)
    tile, tiles = block * factor, -(-length // (block * factor))
    same = len(set(halves)) == 1
    half = torch.tensor(halves, device=device)
    first = torch.arange(tiles * factor, device=device) * block
    last = first + block - 1

    def tiled(token: Tensor) -> Tensor:
        q, k = token[:, None], token[None, :]
        inside = (q < length) & (k < length)
        heads = [_kept(q, k, text, h, block, stride) & inside for h in halves[: 1 if same else None]]
        return torch.stack(heads).unflatten(2, (tiles, factor)).unflatten(1, (tiles, factor)).transpose(2, 3).flatten(3)

    def rows(tiles: Tensor) -> tuple[Tensor, Tensor]:
        return tiles.sum(-1)[None].int(), tiles.int().argsort(dim=-1, descending=True, stable=True)[None].int()

    # A block whose first token is text holds some text, one whose last token is text holds nothing else.
    full = tiled(last).all(-1)
    partial = tiled(first).any(-1) & ~full

    def kept(batch, head, q, k):
        return _kept(q, k, text, halves[0] if same else half[head], block, stride)

    sizes = {"BLOCK_SIZE": tile, "mask_mod": kept, "seq_lengths": (length, length)}
    return BlockMask.from_kv_blocks(*rows(partial), *rows(full), **sizes)
