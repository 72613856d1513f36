"""FreeScale (ali-vilab/FreeScale), what of it carries over to transformers: a skip residual to the noised enlarged
image, and attention whose low frequencies come from windows and whose high frequencies from the whole image.

The published code is for SDXL; the form here is ours. Arithmetic first, then the method; its windows are those of
`kernels/windows.py`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError
from sega.formulas.work import Attended, dense, rotated
from sega.methods.base import Attention, Method
from sega.methods.parameters import choice, count, number
from sega.methods.staged import Staged, enlargements, restart_index, stage_sizes
from sega.methods.types import AttentionCall, Coding, ImageRequest, Point, Stage, Step

from .kernels.tile_cost import axis_of, tiles_attended
from .kernels.tiled import attend_call, splice
from .kernels.windows import Box, Span, Tile, overlapping

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sega.methods.types import Generation


def skip_weight(sigma: float, exponent: float) -> float:
    """c = ((1 + cos(pi (1 - sigma)))/2)^exponent: 1 at noise, 0 at the image. The code has t/T for sigma."""
    weight: float = (0.5 * (1 + math.cos(math.pi * (1 - sigma)))) ** exponent
    return weight


def noised(clean: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """(1 - sigma) z + sigma e, a point of the flow between a clean latent and noise."""
    return (1 - sigma) * clean + sigma * noise


def blur(x: Tensor, kernel: int, deviation: float, axes: tuple[int, ...]) -> Tensor:
    """x under a normalised Gaussian of `kernel` taps, an odd number, along each of `axes`; zeros lie beyond x."""
    half = kernel // 2
    taps = [math.exp(-((k / deviation) ** 2) / 2) for k in range(half + 1)]
    taps = [tap / (2 * sum(taps) - taps[0]) for tap in taps]
    for axis in axes:
        out, length = taps[0] * x, x.shape[axis]
        for k in range(1, min(half + 1, length)):
            rest = length - k
            out.narrow(axis, k, rest).add_(x.narrow(axis, 0, rest), alpha=taps[k])
            out.narrow(axis, 0, rest).add_(x.narrow(axis, k, rest), alpha=taps[k])
        x = out
    return x


def fuse(local: Tensor, whole: Tensor, kernel: int, deviation: float, features: bool = False) -> Tensor:
    """blur(local) + whole - blur(whole) of [B, H, W, heads, d], float32.

    The blur is over rows and columns, with `features` over the merged features of the heads too.
    """
    axes = (1, 2, 3) if features else (1, 2)
    return blur((local.float() - whole).flatten(3), kernel, deviation, axes).reshape(whole.shape).add_(whole)


def window_of(grid: tuple[int, int], side: int) -> tuple[int, int]:
    """Rows and columns of a window: `side` tokens on the longer side, in the shape of the grid."""
    return max(1, round(side * grid[0] / max(grid))), max(1, round(side * grid[1] / max(grid)))


def spread(length: int, window: int, stride: int) -> list[Span]:
    """Overlapping windows of one axis, evenly spaced and at most `stride`."""
    return overlapping(length, window, 1 + -(-(length - window) // stride))


def blur_taps(side: int, native: int) -> int:
    """2 S - 1 for a longer side of S times the training side."""
    return 2 * max(1, round(side / native)) - 1


def window_boxes(
    grid: tuple[int, int], window: tuple[int, int], stride: tuple[int, int], moves: list[tuple[int, int]] | None = None
) -> list[Box]:
    """Overlapping windows of one size over a grid no smaller than it, row by row, evenly spaced and at most `stride`.

    Window k is moved by `moves[k]` tokens, but no further than the grid goes; the windows at its border stay there.
    """
    starts = [[start for start, _ in spread(*axis)] for axis in zip(grid, window, stride, strict=True)]
    places = list(itertools.product(*starts))
    last = grid[0] - window[0], grid[1] - window[1]
    return [
        Box(*(_moved(at, by, end) for at, by, end in zip(place, move, last, strict=True)), *window)
        for place, move in zip(places, moves or [(0, 0)] * len(places), strict=True)
    ]


def _moved(start: int, move: int, last: int) -> int:
    return start if start in (0, last) else min(max(start + move, 0), last)


class ScaleFusion(Attention):
    """out = blur(L) + (G - blur(G)): L is attention inside windows, the mean over them, and G attention to all.

    The text joins every window; its own output is that of G.
    """

    def __init__(self, method: FreeScale, generator: torch.Generator):
        self.method, self.generator, self.base = method, generator, Method(method.geometry)

    def tiles(self, grid: tuple[int, int]) -> list[Tile]:
        """The windows of one call, each attending within itself, moved at random."""
        import torch

        window = window_of(grid, self.method.window)
        rows, columns = (max(1, int(side * self.method.stride)) for side in window)
        still = window_boxes(grid, window, (rows, columns))
        moves = torch.stack([self.draw(int(side * self.method.jitter), len(still)) for side in window], 1)
        return [Tile(box, box) for box in window_boxes(grid, window, (rows, columns), moves.tolist())]

    def draw(self, reach: int, number: int) -> Tensor:
        """Whole numbers, each uniform in -reach ... reach."""
        import torch

        return torch.randint(-reach, reach + 1, (number,), generator=self.generator)

    def attend(self, call: AttentionCall) -> Tensor:
        method, grid = self.method, call.grid
        if max(grid) <= method.window:
            return super().attend(call)
        whole = call.dense(call.rotate(call.q), call.rotate(call.k), call.v)
        kernel = blur_taps(max(grid), method.geometry.train_tokens)
        local, image = (x.unflatten(1, grid) for x in (self.local(call), call.image(whole)))
        fused = fuse(local, image, kernel, method.deviation, features=method.blur == "code")
        return call.join(call.others(whole), fused.flatten(1, 2).to(whole.dtype))

    def local(self, call: AttentionCall) -> Tensor:
        """Every window as an image of its size, at base frequencies; the mean over windows, [B, H*W, heads, d]."""
        import torch

        rope = self.base.positions(call.grid)
        q, k = (call.rotate(x, ids=call.ids, rope=rope) for x in (call.q, call.k))
        options: dict[str, Any] = {"rope": rope, "others_ask": False, "budget_mb": self.method.memory_mb}
        outputs = attend_call(call, q, k, self.tiles(call.grid), own=True, **options)
        return splice(outputs, call.grid, call.image(call.v), torch.ones)[0]


class SkipResidual:
    """The flow part: after each step the latent is mixed with the enlarged image, noised by one noise.

    The code mixes before a step, x <- (1 - c) x + c n, both of that step's time. Before the first step this changes
    nothing, since the stage starts from n. So it is the same to mix after each step with c and n of the time that it
    leads to; after the last step c is 0. As a velocity: (1 - c) v + c (n - x)/(sigma' - sigma).
    """

    def __init__(self, clean: Tensor, noise: Tensor, exponent: float):
        self.clean, self.noise, self.exponent = clean, noise, exponent

    def __call__(self, point: Point) -> Tensor:
        weight = skip_weight(point.next_sigma, self.exponent)
        aim = noised(self.clean, self.noise, point.next_sigma).to(point.x)
        return (1 - weight) * point.velocity + weight * (aim - point.x) / (point.next_sigma - point.sigma)


@dataclass(frozen=True)
class FreeScale(Staged):
    """A base image, then doublings of its side, each from the image before, enlarged in pixels and partly noised.

    Sizes are those of ScaleDiff. All stages share one list of `base_steps` times; a doubling skips the first `restart`
    of it. `window` is the longer side of a window in tokens, whose shape is that of the image, as in the code; S is the
    longer side of the grid over the training side, and the blur has 2 S - 1 taps a side.

    Source: the public code, for SDXL. Its dilated convolutions and FreeU have no counterpart in a transformer. Ours:
    the form for a flow (sigma in place of t/T), the text (it joins every window as in training), positions (SDXL has
    none: those of the model, in windows from their corner), guidance, and sizes that are no whole multiple.
    """

    schedule: str = choice("pinned", "pinned", doc="the time shift of the training size in all stages")
    guidance: float = number(3.5, low=0, doc="in the doublings; published for SDXL: 7.5")
    restart: float = number(0.3, low=0, high=0.99, doc="share of the list of sigmas that a doubling skips")
    cosine_scale: float = number(
        2.0, low=0.01, doc="exponent of the weight of the skip residual; published for 8 times the side: at most 1"
    )
    window: int | None = count(None, doc="tokens of the longer side; null: the training side (FLUX: 64)")
    stride: float = number(0.5, low=0.01, high=1, doc="between windows, as a share of their side")
    jitter: float = number(0.125, low=0, high=0.5, doc="furthest move of a window in a call, as a share of its side")
    blur: str = choice("spatial", "spatial", "code", doc="spatial: over the grid; code: over the features too")
    deviation: float = number(1.0, low=0.01, doc="standard deviation of the blur in tokens")
    memory_mb: float = number(1024.0, low=0, doc="of the copies of queries, keys, values and outputs made at a time")

    name: ClassVar[str] = "freescale"

    def settle(self) -> dict[str, Any]:
        return {"window": self.geometry.train_tokens}

    def check(self) -> None:
        if self.stride + 2 * self.jitter > 1:
            raise RequestError(
                f"freescale: stride={self.stride:g} and twice jitter={self.jitter:g} must not exceed 1 together, or "
                "tokens would lie in no window"
            )

    def stages(self, request: ImageRequest) -> list[Stage]:
        geometry = self.geometry
        native = geometry.train_tokens * geometry.token_pixels
        base, *targets = stage_sizes(request.size, native, geometry.token_pixels)
        first = restart_index(self.base_steps, self.restart)
        return [self.base_stage(base)] + [
            Stage(size, self.base_steps, self.guidance, first=first, positions=self.direct) for size in targets
        ]

    def begin(self, index: int, generation: Generation) -> Tensor:
        from sega.formulas.filters import bicubic

        width, height = size = generation.stages[index].size
        pixels = bicubic(generation.decode(generation.latent), (height, width))
        generation.guide = generation.encode(pixels, sample=True)
        return noised(generation.guide, generation.noise(size), generation.sigmas(index)[0])

    def own_attended(self, step: Step, text: int, gpu: bool) -> Attended:
        image, longest = step.grid[0] * step.grid[1], max(step.grid)
        whole = dense(image + text)
        if longest <= self.window:
            return whole
        sides = zip(step.grid, window_of(step.grid, self.window), strict=True)
        rows, columns = (
            axis_of((span, span) for span in spread(length, side, max(1, int(side * self.stride))))
            for length, side in sides
        )
        local = tiles_attended(rows, columns, text, own=True) + rotated(2 * (image + text))
        taps = blur_taps(longest, self.geometry.train_tokens) // 2
        blurred = (3 if self.blur == "code" else 2) * (2 + 6 * taps) + 8
        return whole + local + Attended(0, 2 * image, singles=8 * rows.queries * columns.queries + blurred * image)

    def recoded(self, request: ImageRequest) -> dict[int, list[Coding]]:
        return enlargements(self.stages(request))

    def own_attention(self, index: int, generation: Generation) -> Attention:
        return ScaleFusion(self, generation.generator)

    def flow(self, index: int, generation: Generation) -> SkipResidual:
        return SkipResidual(generation.guide, generation.noise(generation.stages[index].size), self.cosine_scale)
