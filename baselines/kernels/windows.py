"""Attention of regions of queries to regions of keys, the one machinery of all methods with windows.

A grid has H x W image tokens; a box is a rectangle of them, a tile a box of queries with the box of keys that they
attend to, besides the others: the text, and the tokens of reference images where a model has them. Methods make tiles,
`attend` computes them, `paste` or `splice` puts the outputs together.

Rotary positions act through differences only. So a window with position ids of its own, as if it were an image of its
size, is one that keeps the ids of the whole image while the text moves to the window: `turn_others` does that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sega.methods.types import AttentionCall, Rope

Span = tuple[int, int]
"""First token and number of tokens, on one axis."""
LEAST_MB = 256
Joint = tuple["Tensor", "Tensor", "Tensor"]
"""Queries, keys and values [B, N, heads, d]."""


@dataclass(frozen=True)
class Box:
    """A rectangle of tokens."""

    top: int
    left: int
    height: int
    width: int

    @property
    def place(self) -> tuple[int, int]:
        """Row and column of the first token."""
        return self.top, self.left

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def tokens(self) -> int:
        return self.height * self.width

    def of(self, x: Tensor) -> Tensor:
        """The part [B, h, w, ...] of [B, H, W, ...]."""
        return x[:, self.top : self.top + self.height, self.left : self.left + self.width]

    def of_latent(self, x: Tensor) -> Tensor:
        """What a latent [..., 2H, 2W] has there, as a view."""
        bottom, right = self.top + self.height, self.left + self.width
        return x[..., 2 * self.top : 2 * bottom, 2 * self.left : 2 * right]


@dataclass(frozen=True)
class Tile:
    """Queries and the keys they attend to."""

    queries: Box
    keys: Box


# ------------------------------------------------------------------------------------------------ spans of one axis


def cut(length: int, side: int, shift: int = 0) -> list[Span]:
    """The axis cut at shift, shift + side, ...; every token is in one span, the first and last may be shorter."""
    borders = [0, *range(shift % side or side, length, side), length]
    return [(a, b - a) for a, b in itertools.pairwise(borders)]


def overlapping(length: int, side: int, count: int) -> list[Span]:
    """`count` spans of `side` tokens, the first and last flush with the ends, evenly spaced to the nearest token."""
    if count == 1 or length <= side:
        return [(0, min(side, length))]
    return [(round(k * (length - side) / (count - 1)), side) for k in range(count)]


def grown(span: Span, halo: int, length: int) -> Span:
    """The span and `halo` tokens on both sides of it, as far as the axis goes."""
    start, stop = max(0, span[0] - halo), min(length, span[0] + span[1] + halo)
    return start, stop - start


def product(rows: Iterable[tuple[Span, Span]], columns: Iterable[tuple[Span, Span]]) -> list[Tile]:
    """Tiles from the spans of queries and keys on both axes, row by row."""
    return [
        Tile(Box(y[0], x[0], y[1], x[1]), Box(v[0], u[0], v[1], u[1]))
        for (y, v), (x, u) in itertools.product(list(rows), list(columns))
    ]


def windows(grid: tuple[int, int], side: int, shift: tuple[int, int] = (0, 0), halo: int = 0) -> list[Tile]:
    """Windows of `side` tokens with borders at `shift`, whose keys reach `halo` tokens further."""
    axes = [
        [(span, grown(span, halo, length)) for span in cut(length, side, offset)]
        for length, offset in zip(grid, shift, strict=True)
    ]
    return product(*axes)


def neighbourhoods(
    grid: tuple[int, int], window: tuple[int, int], patch: tuple[int, int], offset: tuple[int, int] | None = None
) -> list[Tile]:
    """Patches of queries, each with a window around it that stays inside the grid (ScaleDiff).

    The window of a patch that begins at token o starts at clip(o - (window - patch)/2, 0, n - window). With an offset
    of 0 ... patch tokens the patches begin that far before the grid and cover one patch more on each axis, so that
    their borders move; a patch may then lie beyond the grid and has no query.
    """
    return product(
        *(
            [_around(start, n, w, p) for start in range(-(o or 0), n + (0 if o is None else p - o), p)]
            for n, w, p, o in zip(grid, window, patch, offset or (None, None), strict=True)
        )
    )


def _around(start: int, length: int, window: int, patch: int) -> tuple[Span, Span]:
    """The part of a patch that lies on the axis, and its window."""
    first, stop = max(0, start), max(0, min(length, start + patch))
    inside = (min(first, length), max(0, stop - first))
    return inside, (min(max(start - (window - patch) // 2, 0), length - window), window)


class Shifts:
    """Where the borders of windows lie: anew in each step, from one seed, the same in all layers of a step."""

    def __init__(self, generator: torch.Generator | None):
        """`generator` is that of the image; without one (attached by hand) the seed is 0."""
        import torch

        self.seed = 0 if generator is None else int(torch.randint(2**62, (), generator=generator))

    def of(self, step: int, side: int) -> tuple[int, int]:
        """Row and column, each uniform in 0 ... side - 1."""
        import torch

        generator = torch.Generator().manual_seed((self.seed + step) % 2**63)
        row, column = torch.randint(side, (2,), generator=generator).tolist()
        return row, column


# -------------------------------------------------------------------------------------------------------- attention


@dataclass(frozen=True)
class Outputs:
    """What some tiles of one shape attended to."""

    tiles: list[Tile]
    image: Tensor  # [tiles, B, h, w, heads, d]
    others: Tensor  # [tiles, B, T, heads, d]; no token where they did not ask


def attend(
    image: Joint,
    others: Joint,
    grid: tuple[int, int],
    tiles: list[Tile],
    dense: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    turn_others: Callable[[Tensor, Box], Tensor] | None = None,
    others_ask: bool = True,
    bridges: list[Tensor] | None = None,
    budget_mb: float = 1024.0,
) -> Iterator[Outputs]:
    """Softmax attention of every tile over the others and its keys, by `dense(q, k, v)`; tiles of one shape at a time.

    Queries and keys of `image` are rotated by their place in the image. Those of `others` are rotated too, unless
    `turn_others(x, keys)` rotates them for the window they join. With `others_ask` their queries join every tile.
    `bridges` are for each tile indices into the H*W tokens of further keys, none of which lies in its box.
    `budget_mb` bounds the copies of queries, keys, values and outputs made at a time, and where it exceeds
    `LEAST_MB` so does twice the size of the queries, since copies may exceed all else; at least one tile runs.
    """
    import torch

    q, k, v = (x.unflatten(1, grid) for x in image)
    (batch, _, heads, dim), rest = image[0].shape, others[0].shape[1]
    asking = rest if others_ask else 0
    budget = min(budget_mb * 2**20, max(LEAST_MB * 2**20, 2 * image[0].numel() * q.element_size()))

    def turned(x: Tensor, keys: Box) -> Tensor:
        return x if turn_others is None else turn_others(x, keys)

    def queries_of(tile: Tile) -> Tensor:
        own = tile.queries.of(q).flatten(1, 2)
        return torch.cat([turned(others[0], tile.keys), own], 1) if asking else own

    def keys_of(index: int, x: Tensor, before: Tensor) -> Tensor:
        parts = [before, tiles[index].keys.of(x).flatten(1, 2)]
        return torch.cat(parts if bridges is None else [*parts, x.flatten(1, 2)[:, bridges[index]]], 1)

    def shape(index: int) -> tuple[tuple[int, int], tuple[int, int], int]:
        tile = tiles[index]
        return tile.queries.size, tile.keys.size, 0 if bridges is None else len(bridges[index])

    for (size, window, bridge), members in _by_shape(range(len(tiles)), shape).items():
        tokens = 2 * (asking + size[0] * size[1]) + 2 * (rest + window[0] * window[1] + bridge)
        count = max(1, int(budget / (tokens * batch * heads * dim * q.element_size())))
        if asking + size[0] * size[1] == 0:
            continue
        for chunk in (members[first : first + count] for first in range(0, len(members), count)):
            own = [tiles[index] for index in chunk]
            before = {tile.keys: turned(others[1], tile.keys) for tile in own}
            out = dense(
                torch.cat([queries_of(tile) for tile in own]),
                torch.cat([keys_of(index, k, before[tiles[index].keys]) for index in chunk]),
                torch.cat([keys_of(index, v, others[2]) for index in chunk]),
            ).unflatten(0, (-1, batch))
            yield Outputs(own, out[:, :, asking:].unflatten(2, size), out[:, :, :asking])


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
        turn_others=(lambda x, keys: call.turn_others(x, keys.place, keys.size, rope)) if own else None,
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
        for tile, part in zip(batch.tiles, batch.image, strict=True):
            tile.queries.of(image).copy_(part)
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
        factor = weights(batch.tiles[0].queries.size).to(image)[..., None, None]
        for tile, part in zip(batch.tiles, batch.image, strict=True):
            tile.queries.of(image).add_(factor * part.float())
            tile.queries.of(total).add_(factor)
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


class Rule:
    """Which pairs of positions in the joint sequence the tiles keep; for masks, where the others have one place.

    `rule(q, k)` takes whole-number tensors of positions and gives bool of their common shape. Text and what lies behind
    the image attend to all, and all attend to them. The tiles cover each token once.
    """

    def __init__(
        self,
        tiles: list[Tile],
        grid: tuple[int, int],
        text: int,
        device: torch.device | str = "cpu",
    ):
        import torch

        self.text, self.width = text, grid[1]
        owner = torch.zeros(1, *grid, dtype=torch.long)
        for index, tile in enumerate(tiles):
            tile.queries.of(owner).fill_(index)
        self.owner = owner.flatten().to(device)
        edges = [(t.keys.top, t.keys.left, t.keys.top + t.keys.height, t.keys.left + t.keys.width) for t in tiles]
        self.edges = torch.tensor(edges, device=device)

    def __call__(self, q: Tensor, k: Tensor) -> Tensor:
        last = len(self.owner) - 1
        of_q, of_k = ((x - self.text).clamp(0, last) for x in (q, k))
        tile, row, column = self.owner[of_q], of_k // self.width, of_k % self.width
        top, left, bottom, right = self.edges[tile].unbind(-1)
        inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
        other = (q < self.text) | (k < self.text) | (q > self.text + last) | (k > self.text + last)
        return other | inside
