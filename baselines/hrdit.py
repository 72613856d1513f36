"""HRDiT (zylwithxy/HRDiT): HiFlow with bundled position ids at its first steps and, for speed, pruned attention.

Arithmetic first, then the method; its pruned attention is in `kernels/pruned.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from sega.formulas.work import Attended, dense, rotated
from sega.methods.base import Attention, Method
from sega.methods.parameters import choice, count, flag, number, numbers
from sega.methods.staged import ProportionalAttention
from sega.methods.types import AttentionCall, Step

from .hiflow import HiFlow
from .kernels.pruned import band_half, flex_attention, hap_chunked, pruned_attended

if TYPE_CHECKING:
    from torch import Tensor

    from sega.methods.types import Generation

SHARES = (17 / 30, 10 / 30)
"""Of the steps, for each upscale."""


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


class BundledAttention(Attention):
    """HiFlow's attention, with bundled ids on the first `spa_steps` steps and pruned where the method says so."""

    def __init__(self, method: HRDiT, spa_steps: int):
        self.method, self.spa_steps = method, spa_steps
        self.inner = ProportionalAttention(method.geometry) if method.proportional_attention else Attention()
        self.base = Method(method.geometry)

    def attend(self, call: AttentionCall) -> Tensor:
        import torch

        if self.method.hap:
            call = replace(call, dense=self.pruned(call))
        if call.step.index >= self.spa_steps:
            return self.inner.attend(call)
        variants, total = self.bundled(call), call.v.new_zeros(call.v.shape, dtype=torch.float32)
        for ids in variants:
            total += self.inner.attend(replace(call, rotate=self.turned(call, ids)))
        return total.div_(len(variants)).to(call.v.dtype)

    def bundled(self, call: AttentionCall) -> list[Tensor]:
        """Ids [S, 3] of every variant; text is to the bundles as it is to the tokens of an image of their number."""
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

    def turned(self, call: AttentionCall, ids: Tensor) -> Callable[[Tensor], Tensor]:
        """Rotation by ids at base frequencies."""
        rope = self.base.positions(call.grid)
        return lambda x: call.rotate(x, ids=ids, rope=rope)

    def pruned(self, call: AttentionCall) -> Callable[..., Tensor]:
        """`dense` over the pairs that HAP keeps."""
        method, length = self.method, call.q.shape[1]
        half = band_half(length, method.hap_alpha, method.hap_beta, method.hap_block)
        flex = method.hap_backend == "flex" or (method.hap_backend == "auto" and call.q.is_cuda)

        def attend(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
            scale = q.shape[-1] ** -0.5 if scale is None else scale
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            if flex:
                run, mask = flex_attention(length, call.text, half, method.hap_block, method.hap_stride, q.device)
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

    variant: str = choice("code", "code", doc="of HiFlow, for what is null below")
    steps: tuple[int, ...] | None = numbers(
        None,
        low=1,
        whole=True,
        doc="of each upscale, from the end of the list; null: 17/30 and 10/30 of base_steps",
    )
    ntk_factors: tuple[float, ...] = numbers((4.0, 10.0), low=1, doc="on theta, for each upscale")
    shift_windows: bool = flag(False, doc="token borders move by half a token on every other step")
    spa_steps: tuple[int, ...] = numbers(
        (3, 0), low=0, whole=True, doc="bundled position ids on so many first steps of each upscale"
    )
    groups: int | None = count(
        None, low=2, doc="bundles an axis may have; null: 80 for 64 training tokens, in proportion elsewhere"
    )
    hap: bool | None = flag(
        None, doc="pruned attention in the upscales, for speed; null: true, as published; false: better, slower"
    )
    hap_alpha: float | None = number(None, low=0, doc="tokens of the band; null: half the training tokens (FLUX: 2048)")
    hap_beta: float = number(0.0, low=0, doc="part of the band that grows with the sequence")
    hap_block: int | None = count(None, doc="tokens of a block; null: the training side (FLUX: 64)")
    hap_stride: int | None = count(
        None, doc="every so many blocks one is kept by all; null: half the training side (FLUX: 32)"
    )
    hap_backend: str = choice(
        "auto", "auto", "flex", "chunked", doc="flex: FlexAttention; chunked: plain kernels; auto: flex on GPUs"
    )

    name: ClassVar[str] = "hrdit"
    shares: ClassVar[tuple[float, ...]] = SHARES

    def settle(self) -> dict[str, Any]:
        side = self.geometry.train_tokens
        return super().settle() | {
            "groups": max(2, round(80 * side / 64)),
            "hap": True,
            "hap_alpha": float(side**2 // 2),
            "hap_block": side,
            "hap_stride": max(1, side // 2),
        }

    def own_attended(self, step: Step, text: int, gpu: bool) -> Attended:
        length = step.grid[0] * step.grid[1] + text
        each = dense(length)
        if self.hap:
            flex = self.hap_backend == "flex" or (self.hap_backend == "auto" and gpu)
            half = band_half(length, self.hap_alpha, self.hap_beta, self.hap_block)
            each = pruned_attended(length, text, half, self.hap_block, self.hap_stride, flex)
        if step.index >= self.steps_bundled(step.stage):
            return each
        variants = len(bundle_offsets(tuple(bundle_size(side, self.groups) for side in step.grid)))
        added = Attended(0, length, singles=4 * length)  # outputs in float32, one after the other
        return variants * (each + rotated(2 * length) + added)

    def steps_bundled(self, index: int) -> int:
        """Of stage `index`, the first so many steps have bundled position ids."""
        return self.spa_steps[min(index, len(self.spa_steps)) - 1]

    def own_attention(self, index: int, generation: Generation | None) -> Attention:
        return BundledAttention(self, self.steps_bundled(index))
