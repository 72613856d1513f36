"""HRDiT (zylwithxy/HRDiT): HiFlow with bundled position ids at its first steps and, for speed, pruned attention.

Arithmetic first, then the method. Joint sequences are text first, then image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from baselines.hiflow import HiFlow
from sega.errors import RequestError
from sega.methods.base import Attention, Method
from sega.methods.staged import ProportionalAttention
from sega.methods.types import Call

if TYPE_CHECKING:
    from torch import Tensor

    from sega.methods.types import Generation

SHARES = (17 / 30, 10 / 30)
"""Of the steps, for each upscale."""
TILE = 128  # tokens of a tile of FlexAttention's kernels


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
    apart, or if the block of k is a multiple of `stride`. Blocks are counted from the first image token, as in the
    code. `halves` is (w - 1)/2 per head.
    """
    import torch

    index = torch.arange(length)
    return torch.stack([_kept(index[:, None], index[None, :], text, half, block, stride) for half in halves])


def _kept(q, k, text: int, half, block: int, stride: int):
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
    blocks = (index - text) // block
    for start in range(text, length, max(1, rows // block) * block):
        stop = min(start + max(1, rows // block) * block, length)
        distance = torch.maximum(blocks[start] - blocks, blocks - blocks[stop - 1])
        keys = index[(index < text) | (distance <= widest) | (blocks % stride == 0)]
        mask = _kept(index[start:stop, None], keys[None, :], text, half, block, stride)
        out[:, :, start:stop] = F.scaled_dot_product_attention(
            q[:, :, start:stop], k[:, :, keys], v[:, :, keys], attn_mask=mask, scale=scale
        )
    return out


def hap_block_mask(length: int, text: int, halves: list[int], block: int, stride: int, device=None):
    """`hap_mask` as a BlockMask for FlexAttention, made from the rule on blocks: no N x N mask exists on the way.

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
    kept_pieces = torch.stack([_kept(q, k, text, h, block, stride) & inside for h in halves[: 1 if same else None]])
    tiled = kept_pieces.unflatten(2, (tiles, most)).unflatten(1, (tiles, most)).transpose(2, 3).flatten(3)

    def rows(tiles: Tensor) -> tuple[Tensor, Tensor]:
        return tiles.sum(-1)[None].int(), tiles.int().argsort(dim=-1, descending=True, stable=True)[None].int()

    full = tiled.all(-1)
    partial = tiled.any(-1) & ~full

    def kept(batch, head, q, k):
        return _kept(q, k, text, halves[0] if same else half[head], block, stride)

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
def _flex(length: int, text: int, half: int, block: int, stride: int, device) -> tuple[Callable, Any]:
    """FlexAttention, compiled, and its block mask. Kept, because compiling and the mask both take a while."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention), hap_block_mask(length, text, [half], block, stride, device)


class BundledAttention(Attention):
    """HiFlow's attention, with bundled ids on the first `spa_steps` steps and pruned where the method says so."""

    def __init__(self, method: HRDiT, spa_steps: int):
        self.method, self.spa_steps = method, spa_steps
        self.inner = ProportionalAttention(method.geometry) if method.proportional_attention else Attention()
        self.base = Method(method.geometry)

    def attend(self, call: Call) -> Tensor:
        if self.method.hap:
            call = replace(call, dense=self.pruned(call))
        if call.step.index >= self.spa_steps:
            return self.inner.attend(call)
        variants, total = self.bundled(call), 0
        for ids in variants:
            total = total + self.inner.attend(replace(call, rotate=self.turned(call, ids))).float()
        return (total / len(variants)).to(call.v.dtype)

    def bundled(self, call: Call) -> list[Tensor]:
        """Ids [S, 3] of every variant; text is to the bundles as it is to the tokens of a picture of their number."""
        import torch

        first = call.ids[call.text]
        result = []
        for rows, columns in spa_ids(call.grid, self.method.groups):
            rows, columns = (torch.tensor(values, dtype=torch.float32) for values in (rows, columns))
            places = torch.cartesian_prod(rows, columns).to(call.ids)
            ids = call.ids.clone()
            ids[: call.text] = call.text_ids((0, 0), (int(rows[-1]) + 1, int(columns[-1]) + 1))
            ids[call.text : call.text + len(places), 1:3] = places + first[1:3]
            result.append(ids)
        return result

    def turned(self, call: Call, ids: Tensor) -> Callable[[Tensor], Tensor]:
        """Rotation by ids at base frequencies."""
        rope = self.base.positions(call.grid)
        return lambda x: call.rotate(x, ids=ids, rope=rope)

    def pruned(self, call: Call) -> Callable[..., Tensor]:
        """`dense` over the pairs that HAP keeps."""
        method, length = self.method, call.q.shape[1]
        half = (band_blocks(length, method.hap_alpha, method.hap_beta, method.hap_block) - 1) // 2
        flex = method.hap_backend == "flex" or (method.hap_backend == "auto" and call.q.is_cuda)

        def attend(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
            scale = q.shape[-1] ** -0.5 if scale is None else scale
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            if flex:
                run, mask = _flex(length, call.text, half, method.hap_block, method.hap_stride, q.device)
                out = run(q, k, v, block_mask=mask, scale=scale)
            else:
                out = hap_chunked(q, k, v, call.text, [half], method.hap_block, method.hap_stride, scale)
            return out.transpose(1, 2)

        return attend


@dataclass(frozen=True)
class HRDiT(HiFlow):
    """HiFlow with NTK factors 4 and 10, 17 and 10 of 30 steps, no shifting windows, and two additions.

    SPA, on the first `spa_steps[j]` steps of upscale j: attention at base frequencies with ids shared by bundles of
    tokens, averaged over the `spa_ids` variants. `groups` is the number of bundles an axis may have: 80 for FLUX's 64
    tokens, in proportion for other models.

    HAP (`hap`; null: on, as the published runner has it at every step of the upscales): each query keeps text, a band
    of blocks around its own and every `hap_stride`-th block, counted from the first image token. In tokens of the
    training side s (FLUX: 64) blocks are s, the stride s/2 and `hap_alpha` s^2/2, the values of the published plan,
    which is the same for every layer and head. `hap_backend`: "flex" is FlexAttention, "chunked" plain kernels on
    gathered keys, "auto" FlexAttention on GPUs.
    """

    steps: tuple[int, ...] | None = None
    ntk_factors: tuple[float, ...] = (4.0, 10.0)
    shift_windows: bool = False
    spa_steps: tuple[int, ...] = (3, 0)
    groups: int | None = None
    hap: bool | None = None
    hap_alpha: float | None = None
    hap_beta: float = 0.0
    hap_block: int | None = None
    hap_stride: int | None = None
    hap_backend: str = "auto"

    name: ClassVar[str] = "hrdit"
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = HiFlow.CHOICES | {
        "variant": ("code",),
        "hap_backend": ("auto", "flex", "chunked"),
    }
    NUMBERS: ClassVar[dict[str, tuple[float, float]]] = HiFlow.NUMBERS | {
        "hap_alpha": (0, math.inf),
        "hap_beta": (0, math.inf),
    }
    COUNTS: ClassVar[tuple[str, ...]] = (*HiFlow.COUNTS, "groups", "hap_block", "hap_stride")
    FLAGS: ClassVar[tuple[str, ...]] = (*HiFlow.FLAGS, "hap")
    LISTS: ClassVar[dict[str, tuple[float, float]]] = HiFlow.LISTS | {"spa_steps": (0, math.inf)}

    def __post_init__(self) -> None:
        side = self.geometry.train_tokens
        defaults = {
            "groups": max(2, round(80 * side / 64)),
            "hap": True,
            "hap_alpha": float(side**2 // 2),
            "hap_block": side,
            "hap_stride": max(1, side // 2),
        }
        if isinstance(self.base_steps, int):
            defaults["steps"] = tuple(max(1, round(self.base_steps * share)) for share in SHARES)
        for key, value in defaults.items():
            if getattr(self, key) is None:
                object.__setattr__(self, key, value)
        super().__post_init__()
        if self.groups < 2:
            raise RequestError(f"{self.name}: groups={self.groups} must be at least 2")
        if any(step != int(step) for step in self.spa_steps):
            raise RequestError(f"{self.name}: spa_steps={list(self.spa_steps)} must be whole numbers")

    @property
    def attends_densely(self) -> bool:
        return not self.hap

    def attention(self, index: int, run: Generation | None) -> Attention:
        return BundledAttention(self, self.spa_steps[min(index, len(self.spa_steps)) - 1])
