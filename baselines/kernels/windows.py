"""Regions of queries with regions of keys: the windows of all methods that have them; `tiled.py` attends to them.

A grid has H x W image tokens; a box is a rectangle of them, a tile a box of queries with the box of keys that they
attend to, besides the others: the text, and the tokens of reference images where a model has them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Span = tuple[int, int]
"""First token and number of tokens, on one axis."""


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
    def corners(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Place and size."""
        return self.place, self.size

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


def of_one_size(tiles: list[Tile], grid: tuple[int, int]) -> list[Box]:
    """Boxes that hold the queries of the tiles, of one size where the keys of tiles are.

    Queries that are fewer than others get neighbours to them, on the side where the grid has any.
    """
    most: dict[tuple[int, int], tuple[int, int]] = {}
    for tile in tiles:
        most[tile.keys.size] = _larger(tile.queries.size, most.get(tile.keys.size, (0, 0)))
    found = []
    for tile in tiles:
        size = most[tile.keys.size]
        top, left = (min(a, n - side) for a, n, side in zip(tile.queries.place, grid, size, strict=True))
        found.append(Box(top, left, *size))
    return found


def _larger(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return max(a[0], b[0]), max(a[1], b[1])


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
