"""AReA, our reading of its project page: attention to a coarse image first, then inside windows that shrink.

No paper or code is public. Arithmetic first, then the method; its windows are those of `kernels/windows.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError
from sega.formulas.work import TURN, Attended, dense
from sega.methods.base import Attention, Method
from sega.methods.borrowed import Borrowing
from sega.methods.parameters import choice, count, flag, number
from sega.methods.types import AttentionCall, Step

from .kernels.tile_cost import tiles_attended, window_axis
from .kernels.tiled import Bridges, attend_call, paste
from .kernels.windows import Box, Shifts, Tile, cut, grown, product, windows

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sega.methods.types import Generation


def coarse_factor(start: float, end: float, step: int, steps: int) -> float:
    """f = start + step/(steps - 1) (end - start) for step = 0 ... steps - 1; start where there is one step."""
    return start if steps == 1 else start + step / (steps - 1) * (end - start)


def snapped(factor: float, grid: tuple[int, int], bounds: tuple[float, float]) -> float:
    """The common divisor of both sides within bounds that is nearest to a factor; the factor itself without one."""
    common = math.gcd(*grid)
    divisors = [d for d in range(1, common + 1) if common % d == 0 and bounds[0] <= d <= bounds[1]]
    return min(divisors, key=lambda d: (abs(d - factor), d), default=factor)


def centres(length: int, blocks: int) -> list[int]:
    """The middle token of each of `blocks` blocks of an axis, of equal length to within a token."""
    borders = [k * length // blocks for k in range(blocks + 1)]
    return [(a + b - 1) // 2 for a, b in zip(borders[:-1], borders[1:], strict=True)]


def window_side(start: float, least: int, step: int, steps: int) -> int:
    """start (least/start)^(step/(steps - 1)), to the nearest token and at least `least`."""
    share = 0.0 if steps == 1 else step / (steps - 1)
    return max(least, round(start * (least / start) ** share)) if start > least else least


def detail(latent: Tensor, grid: tuple[int, int]) -> Tensor:
    """Energy of the three detail bands of one Haar level over the tokens, mean over channels; [H, W] of [H*W, C]."""
    import torch
    import torch.nn.functional as F

    (height, width), x = grid, latent.float().T.unflatten(1, grid)
    x = F.pad(x[None], (0, width % 2, 0, height % 2), mode="replicate")[0]
    a, b, c, d = x[:, ::2, ::2], x[:, ::2, 1::2], x[:, 1::2, ::2], x[:, 1::2, 1::2]
    bands = torch.stack([a - b + c - d, a + b - c - d, a - b - c + d]) / 2
    energy = bands.square().sum(0).mean(0)
    return energy.repeat_interleave(2, 0).repeat_interleave(2, 1)[:height, :width]


def split_smooth(tiles: list[Tile], energy: Tensor, smooth: float, grid: tuple[int, int], halo: int) -> list[Tile]:
    """The windows, with quadrants in place of those whose mean detail is below `smooth` times the mean of the image."""
    limit, found = smooth * float(energy.mean()), []
    for tile in tiles:
        box = tile.queries
        if float(box.of(energy[None]).mean()) >= limit or min(box.size) < 2:
            found.append(tile)
            continue
        halves = (
            [(first + a, n) for a, n in cut(side, -(-side // 2))]
            for first, side in zip(box.place, box.size, strict=True)
        )
        found += product(
            *([(span, grown(span, halo, n)) for span in spans] for spans, n in zip(halves, grid, strict=True))
        )
    return found


def distinctive(k: Tensor, grid: tuple[int, int], share: float) -> Tensor:
    """The token of each cell of the grid whose key is furthest from the mean key; indices [M] into H*W.

    k is [1, H*W, heads, d], before rotation. Cells are squares of about 1/share tokens, so that tokens are spread over
    the image.
    """
    import torch
    import torch.nn.functional as F

    side = max(1, round(share**-0.5))
    away = (k.float() - k.float().mean(1, keepdim=True)).square().sum((0, 2, 3)).unflatten(0, grid)
    rows, columns = (-(-n // side) for n in grid)
    padded = F.pad(away, (0, columns * side - grid[1], 0, rows * side - grid[0]), value=-1.0)
    inside = padded.unflatten(1, (columns, side)).unflatten(0, (rows, side)).transpose(1, 2).flatten(2).argmax(-1)
    top, left = (torch.arange(n, device=k.device) * side for n in (rows, columns))
    return ((inside // side + top[:, None]) * grid[1] + inside % side + left).flatten()


def outside(tokens: Tensor, boxes: list[Box], width: int) -> Tensor:
    """Which of the tokens [M], indices into a grid of `width` columns, do not lie in a box; bool [boxes, M]."""
    import torch

    edges = torch.tensor([(*box.place, box.top + box.height, box.left + box.width) for box in boxes])
    top, left, bottom, right = edges.to(tokens.device, non_blocking=True).T[:, :, None]
    rows, columns = tokens // width, tokens % width
    return (rows < top) | (rows >= bottom) | (columns < left) | (columns >= right)


class Adaptive(Attention):
    """Attention of one stage: coarse keys above the switch, windows below it."""

    latent = True

    def __init__(self, method: AReA, generator: torch.Generator | None):
        self.method, self.base, self.shifts = method, Method(method.geometry), Shifts(generator)
        self.planned: tuple[Step | None, list[Tile]] = (None, [])

    def attend(self, call: AttentionCall) -> Tensor:
        method, step = self.method, call.step
        if max(call.grid) <= method.geometry.train_tokens:
            return super().attend(call)
        if not step.sigmas:
            raise RequestError("area counts the steps: attach it to the pipeline, not to the transformer alone")
        coarse = sum(sigma > method.switch for sigma in step.sigmas)
        if step.index < coarse:
            return self.coarse(call, step.index, coarse)
        if self.planned[0] is not step:
            self.planned = step, self.plan(call, step.index - coarse, len(step.sigmas) - coarse)
        return self.windowed(call, self.planned[1])

    def coarse(self, call: AttentionCall, index: int, steps: int) -> Tensor:
        """All queries to the text and to one key of each block, at positions of the smaller image that blocks make."""
        import torch

        method, grid = self.method, call.grid
        size = method.blocks(grid, call.q.shape[1], index, steps)
        rows, columns = (torch.tensor(centres(n, m)) for n, m in zip(grid, size, strict=True))
        rows, columns = (x.to(call.q.device, non_blocking=True) for x in (rows, columns))
        kept = (rows[:, None] * grid[1] + columns).flatten()

        def turn(x: Tensor, places: Tensor) -> Tensor:
            return call.rotate(x, ids=places, rope=rope)

        rope, first, places = self.base.positions(grid), call.ids[call.text, 1:3], call.image(call.ids[None])[0].clone()
        for axis in (0, 1):
            places[:, 1 + axis] = first[axis] + (places[:, 1 + axis] - first[axis]) * (size[axis] / grid[axis])
        blocks = places[kept]
        if method.keys == "grid":  # the number of the block in place of the position of its middle token
            blocks[:, 1:3] = first + torch.cartesian_prod(*(torch.arange(n, device=blocks.device) for n in size)).to(
                blocks
            )
        others_q, others_k = (call.turn_others(call.others(x), [((0, 0), size)], rope)[0] for x in (call.q, call.k))
        q = call.join(others_q, turn(call.image(call.q), places))
        k = torch.cat([others_k, turn(call.image(call.k)[:, kept], blocks)], 1)
        return call.dense(q, k, torch.cat([call.others(call.v), call.image(call.v)[:, kept]], 1))

    def plan(self, call: AttentionCall, index: int, steps: int) -> list[Tile]:
        """The windows of a step, smaller ones where they would exceed the budget; one over everything instead of
        windows that cost as much as full attention."""
        method, grid, latent = self.method, call.grid, call.step.latent
        assert latent is not None  # the engine hands it over: `latent` above
        energy = detail(latent, grid).cpu() if method.smooth > 0 else None  # what a step waits for besides its time

        def tiles_of(side: int) -> list[Tile]:
            shift = self.shifts.of(call.step.index, side) if method.shift else (0, 0)
            found = windows(grid, side, shift, method.halo)
            return found if energy is None else split_smooth(found, energy, method.smooth, grid, method.halo)

        side = method.first_side(grid, index, steps)
        tiles = tiles_of(side)
        while method.budget < 1 and side > 1 and self.share(call, tiles) > method.budget:
            side = side * 15 // 16
            tiles = tiles_of(side)
        return tiles if self.share(call, tiles) < 1 else windows(grid, max(grid))

    def share(self, call: AttentionCall, tiles: list[Tile]) -> float:
        """The pairs of queries and keys in a step, text included, as a share of those of full attention."""
        length = call.q.shape[1]
        others = length - call.tokens
        keys = others + self.method.bridge * call.tokens
        pairs = sum(tile.queries.tokens * (tile.keys.tokens + keys) for tile in tiles) + others * length
        return pairs / length**2

    def windowed(self, call: AttentionCall, tiles: list[Tile]) -> Tensor:
        """Image tokens to the text, their window, its ring and the distinctive tokens elsewhere; text to all."""
        method, grid = self.method, call.grid
        q, k = call.rotate(call.q), call.rotate(call.k)
        if len(tiles) == 1:
            return call.dense(q, k, call.v)
        bridges = None
        if method.bridge > 0:
            tokens = distinctive(call.image(call.k), grid, method.bridge)
            bridges = Bridges(tokens, outside(tokens, [tile.keys for tile in tiles], grid[1]))
        options: dict[str, Any] = {"own": method.ids == "own", "bridges": bridges, "budget_mb": method.memory_mb}
        outputs = attend_call(call, q, k, tiles, others_ask=False, **options)
        image, _ = paste(outputs, grid, call.image(call.v))
        return call.join(call.dense(call.others(q), k, call.v), image)


@dataclass(frozen=True)
class AReA(Borrowing):
    """What attention needs to see narrows while denoising goes on.

    Above sigma `switch` all queries attend to the text and to one key of each f x f block of the image, the middle
    token, at positions divided by f. Over these steps f goes in a line from the factor to the training size to
    `coarse_end`, each value moved to a common divisor of both sides between the two; where none exists, blocks are as
    equal as whole tokens allow. Below it image tokens attend to the text, to windows whose side falls from
    `window_start` of the longer side to the training side, to a ring of `halo` tokens, and to distinctive tokens of the
    whole image, `bridge` of them; the text attends to everything. Windows with little detail are cut in four. Borders
    move from step to step. A step never costs more than `budget` of full attention: blocks get larger and windows
    smaller where it would, and with a budget of 1 windows that cost as much are full attention. Positions are the
    model's own; `positions_of` is for the second phase, since the first stays in the trained range.

    Not stated on the page, and ours: `switch` (chosen on the embedded model, see docs/patterns.md), `halo`, `bridge`
    and its choice (of each cell of the grid, the key furthest from the mean), `smooth` and its map (one Haar level over
    the tokens of the latent), the text.
    """

    switch: float = number(0.6, low=0, high=1, doc="sigma at which the first phase ends")
    coarse_start: float | None = number(
        None, low=1, optional=True, doc="first factor of the coarse keys; null: the ratio to the training side"
    )
    coarse_end: float = number(2.0, low=1, doc="last factor of the coarse keys")
    keys: str = choice(
        "grid", "grid", "centre", doc="position of a coarse key; grid: its block; centre: the middle token"
    )
    window_start: float = number(0.7, low=0.01, high=1, doc="side of the first windows, as a share of the longer side")
    window_end: int | None = count(None, doc="side of the last windows in tokens; null: the training side (FLUX: 64)")
    halo: int | None = count(None, low=0, doc="tokens of the ring around a window; null: 1/16 of the training side")
    bridge: float = number(1 / 64, low=0, high=1, doc="share of the tokens that all windows see; 0: none")
    smooth: float = number(0.5, low=0, doc="windows with less detail than this share of the mean are cut in four")
    budget: float = number(
        1.0, low=0.01, high=1, later=True, doc="most that a step may cost, text included, as a share of full attention"
    )
    shift: bool = flag(True, doc="window borders move from step to step, by the seed of the image")
    ids: str = choice(
        "global", "global", "own", doc="text of a window; global: where it is for the image; own: as if alone"
    )
    memory_mb: float = number(1024.0, low=0, doc="of the copies of queries, keys, values and outputs made at a time")

    name: ClassVar[str] = "area"

    def settle(self) -> dict[str, Any]:
        side = self.geometry.train_tokens
        return {"window_end": side, "halo": max(1, side // 16)}

    def blocks(self, grid: tuple[int, int], length: int, index: int, steps: int) -> tuple[int, int]:
        """Blocks (rows, columns) of a step of the first phase, for a joint sequence of `length` tokens."""
        start = self.coarse_start or max(grid) / self.geometry.train_tokens
        end, tokens = min(start, self.coarse_end), grid[0] * grid[1]
        factor = snapped(coarse_factor(start, end, index, steps), grid, (end, start))
        allowed = max(1.0, self.budget * length - (length - tokens))  # keys from the image
        least = math.sqrt(tokens / allowed)
        # Rounded down under the budget, so that there are never too many blocks.
        rows, columns = (max(1, math.floor(n / least) if factor < least else round(n / factor)) for n in grid)
        return rows, columns

    def first_side(self, grid: tuple[int, int], index: int, steps: int) -> int:
        """Tokens of a window in a step of the second phase, before the budget."""
        return window_side(self.window_start * max(grid), self.window_end, index, steps)

    def attended(self, step: Step, text: int, gpu: bool = False) -> Attended:
        """As in the interface; windows that have too little detail are cut in four, which is not counted."""
        tokens = step.grid[0] * step.grid[1]
        length, steps = tokens + text, len(step.sigmas)
        if max(step.grid) <= self.geometry.train_tokens:
            return dense(length)
        coarse = sum(sigma > self.switch for sigma in step.sigmas)
        if step.index < coarse:
            rows, columns = self.blocks(step.grid, length, step.index, coarse)
            return dense(length, text + rows * columns) + Attended(0, 0, kernels=4 * TURN)
        side = self.first_side(step.grid, step.index - coarse, steps - coarse)
        found = self.windowed_work(step.grid, side, text)
        while self.budget < 1 and side > 1 and found.pairs > self.budget * length**2:
            side = side * 15 // 16
            found = self.windowed_work(step.grid, side, text)
        return found if found.pairs < length**2 else dense(length)

    def windowed_work(self, grid: tuple[int, int], side: int, text: int) -> Attended:
        """Attention in windows of `side` tokens; the mean over the places of their borders."""
        tokens = grid[0] * grid[1]
        axes = (window_axis(length, side, self.halo, self.shift) for length in grid)
        own = self.ids == "own"
        found = tiles_attended(*axes, text, own=own, bridge=self.bridge * tokens) + dense(text, tokens + text)
        return found + Attended(0, 0, singles=8 * tokens) if self.bridge > 0 else found

    def attention(self, index: int, generation: Generation | None) -> Attention:
        return Adaptive(self, None if generation is None else generation.generator)
