"""Attention of tiles of a grid, the one machinery of all methods with windows.

Methods make tiles (`windows.py`), `attend` computes them, `paste` or `splice` puts the outputs together.

Rotary positions act through differences only. So a window with position ids of its own, as if it were an image of its
size, is one that keeps the ids of the whole image while the text moves to the window: `turn_others` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .windows import Box, Tile, of_one_size

if TYPE_CHECKING:
    from torch import Tensor

    from sega.methods.types import AttentionCall, Rope

LEAST_MB = 256
Joint = tuple["Tensor", "Tensor", "Tensor"]
"""Queries, keys and values [B, N, heads, d]."""


@dataclass(frozen=True)
class Bridges:
    """Keys of the whole image that a tile sees besides its own: those of the tokens that lie outside of its box."""

    tokens: Tensor  # [M], different indices into the H*W tokens
    outside: Tensor  # bool [tiles, M]


@dataclass(frozen=True)
class Outputs:
    """What some tiles attended to, by boxes of queries of one size."""

    tiles: list[Tile]
    image: Tensor  # [tiles, B, h, w, heads, d]
    others: Tensor  # [tiles, B, T, heads, d]; no token where they did not ask
    boxes: list[Box]  # of each tile: its queries, or more

    def parts(self) -> Iterator[tuple[Box, Tensor]]:
        """The queries of each tile with their outputs, [B, h, w, heads, d]."""
        for tile, box, part in zip(self.tiles, self.boxes, self.image, strict=True):
            own = tile.queries
            yield own, Box(own.top - box.top, own.left - box.left, *own.size).of(part)


def attend(
    image: Joint,
    others: Joint,
    grid: tuple[int, int],
    tiles: list[Tile],
    dense: Callable[..., Tensor],
    *,
    turn_others: Callable[[Tensor, list[Box]], Tensor] | None = None,
    others_ask: bool = True,
    bridges: Bridges | None = None,
    budget_mb: float = 1024.0,
    few_shapes: bool | None = None,
) -> Iterator[Outputs]:
    """Softmax attention of every tile over the others and its keys, by `dense(q, k, v)`; tiles of one shape at a time.

    Queries and keys of `image` are rotated by their place in the image. Those of `others` are rotated too, unless
    `turn_others(x, windows)` rotates them for the windows they join, [n, B, T, heads, d] for n windows. With
    `others_ask` their queries join every tile. `budget_mb` bounds the copies of queries, keys, values and outputs made
    at a time, and where it exceeds `LEAST_MB` so does twice the size of the queries, since copies may exceed all else;
    at least one tile runs.

    `few_shapes` (None: on a GPU): tiles whose keys have one size ask with as many queries, some in vain, and bridges
    inside the box of a tile are masked by `dense(q, k, v, mask=mask)`, not left out. cuDNN plans for milliseconds
    for each new shape, and the number of bridges that are left would be waited for.
    """
    q, k, v = (x.unflatten(1, grid) for x in image)
    (batch, _, heads, dim), rest = image[0].shape, others[0].shape[1]
    asking = rest if others_ask else 0
    budget = min(budget_mb * 2**20, max(LEAST_MB * 2**20, 2 * image[0].numel() * q.element_size()))
    few = q.device.type != "cpu" if few_shapes is None else few_shapes
    boxes = of_one_size(tiles, grid) if few else [tile.queries for tile in tiles]
    counting = [] if bridges is None else list(bridges.outside)
    further = [bridges.tokens if few else bridges.tokens[rows] for rows in counting] if bridges else []

    def shape(index: int) -> tuple[tuple[int, int], tuple[int, int], int]:
        return boxes[index].size, tiles[index].keys.size, len(further[index]) if further else 0

    for (size, window, bridge), members in _by_shape(range(len(tiles)), shape).items():
        tokens = 2 * (asking + size[0] * size[1]) + 2 * (rest + window[0] * window[1] + bridge)
        count = max(1, int(budget / (tokens * batch * heads * dim * q.element_size())))
        if asking + size[0] * size[1] == 0:
            continue
        for chunk in (members[first : first + count] for first in range(0, len(members), count)):
            own, ask, windows = [tiles[i] for i in chunk], [boxes[i] for i in chunk], [tiles[i].keys for i in chunk]
            more = [further[i] for i in chunk] if further else []
            before_q, before_k = _turned(others, windows, turn_others, others_ask)
            out = dense(
                _side_by_side(before_q, q, ask),
                _side_by_side(before_k, k, windows, more),
                _side_by_side(others[2][None], v, windows, more),
                **_mask([counting[i] for i in chunk if few and counting], batch, rest + window[0] * window[1]),
            ).unflatten(0, (-1, batch))
            yield Outputs(own, out[:, :, asking:].unflatten(2, size), out[:, :, :asking], ask)


def _turned(
    others: Joint, windows: list[Box], turn: Callable[[Tensor, list[Box]], Tensor] | None, ask: bool
) -> tuple[Tensor, Tensor]:
    """Queries and keys of the others for some windows, [n or 1, B, T, heads, d]; no queries unless they ask."""
    import torch

    q, k = others[0] if ask else others[0][:, :0], others[1]
    if turn is None:
        return q[None], k[None]
    if not ask:
        return q[None], turn(k, windows)
    both = turn(torch.cat([q, k], 2), windows)  # one table for the two
    return both[..., : q.shape[2], :], both[..., q.shape[2] :, :]


def _side_by_side(before: Tensor, x: Tensor, boxes: list[Box], further: list[Tensor] | None = None) -> Tensor:
    """For each box what is `before`, its tokens of x [B, H, W, heads, d], and `further` ones: [n * B, N, heads, d]."""
    start, stop = before.shape[2], before.shape[2] + boxes[0].tokens
    found = x.new_empty(len(boxes), len(x), stop + (len(further[0]) if further else 0), *x.shape[3:])
    found[:, :, :start] = before
    for index, box in enumerate(boxes):
        found[index, :, start:stop].unflatten(1, box.size).copy_(box.of(x))
        if further:
            found[index, :, stop:] = x.flatten(1, 2)[:, further[index]]
    return found.flatten(0, 1)


def _mask(counting: list[Tensor], batch: int, before: int) -> dict[str, Tensor]:
    """The mask [n * B, 1, 1, before + M] of keys of which the last M count as n bool [M] say; none for n = 0."""
    import torch
    import torch.nn.functional as F

    if not counting:
        return {}
    rows = F.pad(torch.stack(counting), (before, 0), value=True)
    return {"mask": rows[:, None].expand(-1, batch, -1).flatten(0, 1)[:, None, None]}


def attend_call(
    call: AttentionCall, q: Tensor, k: Tensor, tiles: list[Tile], *, own: bool, rope: Rope | None = None, **options: Any
) -> Iterator[Outputs]:
    """`attend` in an attention call, from its rotated queries and keys [B, S, heads, d].

    With `own` each window is numbered as an image of its size: its text is rotated for it, by the positions of the call
    or by `rope`. Else the others stay as they are in `q` and `k`.
    """
    rest = (call.q, call.k, call.v) if own else (q, k, call.v)
    return attend(
        (call.image(q), call.image(k), call.image(call.v)),
        (call.others(rest[0]), call.others(rest[1]), call.others(rest[2])),
        call.grid,
        tiles,
        call.dense,
        turn_others=(lambda x, windows: call.turn_others(x, [box.corners for box in windows], rope)) if own else None,
        **options,
    )


def _by_shape(items: Iterable[int], shape: Callable[[int], tuple]) -> dict[tuple, list[int]]:
    found: dict[tuple, list[int]] = {}
    for item in items:
        found.setdefault(shape(item), []).append(item)
    return found


def paste(batches: Iterable[Outputs], grid: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """The image [B, H*W, heads, d] from tiles that cover each token once, and the mean of the others over tiles.

    `like` is the value of the image, [B, H*W, heads, d].
    """
    import torch

    image, mean = torch.empty_like(like).unflatten(1, grid), _Mean()
    for batch in batches:
        mean.add(batch.others)
        for box, part in batch.parts():
            box.of(image).copy_(part)
    return image.flatten(1, 2), mean.value.to(like.dtype)


def splice(
    batches: Iterable[Outputs], grid: tuple[int, int], like: Tensor, weights: Callable[[tuple[int, int]], Tensor]
) -> tuple[Tensor, Tensor]:
    """As `paste`, from tiles that may overlap: the mean by `weights(size)`, [h, w] above 0 for tiles of a size."""
    import torch

    image, mean = torch.zeros_like(like, dtype=torch.float32).unflatten(1, grid), _Mean()
    total = image.new_zeros(1, *grid, 1, 1)
    for batch in batches:
        mean.add(batch.others)
        factor = weights(batch.tiles[0].queries.size).to(image.device, non_blocking=True)[..., None, None]
        for box, part in batch.parts():
            box.of(image).add_(factor * part.float())
            box.of(total).add_(factor)
    return image.div_(total).flatten(1, 2).to(like.dtype), mean.value.to(like.dtype)


class _Mean:
    """Of what is added, over its first axis, in float32."""

    def __init__(self) -> None:
        self.total: Any = 0
        self.count = 0

    def add(self, x: Tensor) -> None:
        self.total, self.count = self.total + x.float().sum(0), self.count + len(x)

    @property
    def value(self) -> Tensor:
        mean: Tensor = self.total / self.count
        return mean


def gaussian(size: tuple[int, int], share: float) -> Tensor:
    """exp(-|p - c|^2 / (2 s^2)) at the places p of a box with the middle c, s `share` of each side; float32 [h, w]."""
    import torch

    rows, columns = (((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / (share * n)).square() / 2 for n in size)
    return (-rows[:, None] - columns[None]).exp().float()
