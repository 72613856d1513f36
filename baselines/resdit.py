"""ResDiT (arXiv 2512.01426), our reading of its public description: a global and a local branch of attention, fused.

No code is public. Arithmetic first, then the method; its windows are those of `kernels/windows.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError
from sega.formulas.work import TURN, Attended, dense, rotated
from sega.methods.base import Attention, Method, uniform_axis
from sega.methods.borrowed import Borrowing
from sega.methods.parameters import choice, count, number
from sega.methods.types import AttentionCall, Axis, Step

from .kernels.tile_cost import axis_of, tiles_attended
from .kernels.tiled import Outputs, attend_call, gaussian, splice
from .kernels.windows import Span, Tile, overlapping, product

if TYPE_CHECKING:
    from torch import Tensor

    from sega.methods.types import Generation


def patches(length: int, side: int) -> list[Span]:
    """Patches of an axis: the least whole number above length/side, evenly spaced; one where the axis is no longer."""
    return overlapping(length, side, 1 if length <= side else length // side + 1)


def patch_tiles(grid: tuple[int, int], side: int) -> list[Tile]:
    """The patches of a grid, each attending within itself."""
    return product(*([(span, span) for span in patches(n, side)] for n in grid))


def low_mask(size: tuple[int, int], cutoff: float, shape: str = "disk") -> Tensor:
    """1 at frequencies of at most `cutoff` cycles per token, else 0, in the layout of rfft2: [h, w // 2 + 1]."""
    import torch

    rows, columns = torch.fft.fftfreq(size[0]).abs()[:, None], torch.fft.rfftfreq(size[1])[None]
    radius = torch.hypot(rows, columns) if shape == "disk" else torch.maximum(rows, columns)
    return (radius <= cutoff).float()


def fuse(low: Tensor, high: Tensor, mask: Tensor) -> Tensor:
    """F^-1(M F(low) + (1 - M) F(high)) over the two spatial axes of [..., h, w, heads, d]; float32."""
    import torch

    size, axes = (low.shape[-4], low.shape[-3]), (-4, -3)
    difference = torch.fft.rfft2(low.float() - high, dim=axes).mul_(
        mask.to(low.device, non_blocking=True)[..., None, None]
    )
    return torch.fft.irfft2(difference, s=size, dim=axes).add_(high)


def branches(index: int, steps: int, local_from: float, global_until: float) -> tuple[bool, bool]:
    """Whether the global and the local branch run in a step: (index < until, index >= from), in whole steps."""
    first, last = (math.floor(round(share * steps, 9) + 0.5) for share in (local_from, global_until))
    return index < last, index >= first


class Branches(Attention):
    """The global branch alone, then both, then the local branch alone."""

    def __init__(self, method: ResDiT):
        self.method, self.base = method, Method(method.geometry)

    def attend(self, call: AttentionCall) -> Tensor:
        if max(call.grid) <= self.method.side:
            return super().attend(call)
        if not call.step.sigmas:
            raise RequestError("resdit counts the steps: attach it to the pipeline, not to the transformer alone")
        method = self.method
        wide, near = branches(call.step.index, len(call.step.sigmas), method.local_from, method.global_until)
        whole = call.dense(call.rotate(call.q), call.rotate(call.k), call.v) if wide else None
        if not near:
            assert whole is not None  # `check` leaves no step without a branch
            return whole
        outputs: Iterable[Outputs] = self.local(call)
        if whole is not None:
            outputs = self.fused(outputs, call.image(whole).unflatten(1, call.grid))
        image, others = splice(outputs, call.grid, call.image(call.v), lambda size: gaussian(size, method.feather))
        return call.join(others if whole is None else call.others(whole), image)

    def local(self, call: AttentionCall) -> Iterator[Outputs]:
        """Every patch by itself, as an image of its size, at base frequencies."""
        rope = self.base.positions(call.grid)
        q, k = (call.rotate(x, ids=call.ids, rope=rope) for x in (call.q, call.k))
        tiles = patch_tiles(call.grid, self.method.side)
        return attend_call(call, q, k, tiles, own=True, rope=rope, budget_mb=self.method.memory_mb)

    def fused(self, outputs: Iterable[Outputs], whole: Tensor) -> Iterator[Outputs]:
        """The low frequencies of every patch from the global branch [B, H, W, heads, d], the rest from its own."""
        import torch

        for batch in outputs:
            mask = low_mask(batch.tiles[0].queries.size, self.method.cutoff, self.method.band)
            low = torch.stack([tile.queries.of(whole) for tile in batch.tiles])
            yield replace(batch, image=fuse(low, batch.image, mask))


@dataclass(frozen=True)
class ResDiT(Borrowing):
    """Structure from full attention at interpolated positions, detail from attention in patches of the training size.

    The global branch attends from everything to everything with positions divided by the ratio of each axis (PI). The
    local branch cuts the grid into overlapping patches of `side` tokens, each an image of its own with the text.
    Outputs of patches are averaged with Gaussian weights. Where both run, low frequencies of each patch, over its two
    axes and for each channel, are those of the global branch. Of the steps, the first `local_from` are global alone
    and the last, from `global_until` on, local alone.

    Source: the paper's text, at second hand; 10, 10 and 15 of 35 steps, cut-off 0.2. Not stated, and ours: the text in
    the local branch (it joins every patch as in training; its output is that of the global branch, or the mean over
    patches where that is off), the width of the Gaussian (`feather`, a share of the side), the unit and the shape of
    the cut-off (cycles per token, a disk), single-stream blocks (they take part).
    """

    side: int | None = count(None, doc="tokens of a patch; null: the training side (FLUX: 64)")
    local_from: float = number(10 / 35, low=0, high=1, doc="share of the steps before the local branch begins")
    global_until: float = number(20 / 35, low=0, high=1, doc="share of the steps after which the global branch ends")
    cutoff: float = number(0.2, low=0, high=1, doc="highest frequency taken from the global branch, cycles per token")
    band: str = choice("disk", "disk", "square", doc="shape of the low frequencies")
    feather: float = number(0.25, low=0.01, doc="standard deviation of the weights of a patch, as a share of its side")
    memory_mb: float = number(1024.0, low=0, doc="of the copies of queries, keys, values and outputs made at a time")

    name: ClassVar[str] = "resdit"

    def settle(self) -> dict[str, Any]:
        return {"side": self.geometry.train_tokens}

    def check(self) -> None:
        if self.local_from > self.global_until:
            raise RequestError(
                f"resdit: local_from={self.local_from:g} must not exceed global_until={self.global_until:g}, or no "
                "branch would run between them"
            )

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        from sega.formulas import rope

        return uniform_axis(rope.pi(dim, self.geometry.theta, scale))

    def attended(self, step: Step, text: int, gpu: bool = False) -> Attended:
        length, image = step.grid[0] * step.grid[1] + text, step.grid[0] * step.grid[1]
        wide, near = branches(step.index, len(step.sigmas), self.local_from, self.global_until)
        if max(step.grid) <= self.side or not near:
            return dense(length)
        rows, columns = (axis_of((span, span) for span in patches(side, self.side)) for side in step.grid)
        overlapping = rows.queries * columns.queries  # tokens of all patches
        local = tiles_attended(rows, columns, text, ask=True, own=True)
        local += Attended(0, 0, singles=8 * overlapping, kernels=TURN)
        if not wide:
            return local
        return local + dense(length) + rotated(2 * length) + Attended(0, 2 * image, singles=16 * overlapping)

    def attention(self, index: int, generation: Generation | None) -> Attention:
        return Branches(self)
