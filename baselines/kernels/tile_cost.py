"""What attention in tiles costs, counted from the spans of both axes. No torch.

Tiles are products of spans (`windows.py`), so sums over all of them are products of sums over an axis. Where borders
move by chance, both axes move independently, and the mean of such a product is the product of the means.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass

from sega.formulas.work import TURN, Attended

from .windows import Span, _around, cut, grown


@dataclass(frozen=True)
class Axis:
    """Of the spans of queries and of keys on one axis."""

    spans: float
    queries: float  # tokens
    keys: float
    pairs: float  # the sum of the products of both
    shapes: float  # spans that differ in length


def axis_of(spans: Iterable[tuple[Span, Span]]) -> Axis:
    """The sums over spans of queries, each with its span of keys."""
    lengths = [(queries[1], keys[1]) for queries, keys in spans]
    queries, keys = sum(q for q, _ in lengths), sum(k for _, k in lengths)
    return Axis(len(lengths), queries, keys, sum(q * k for q, k in lengths), len(set(lengths)))


def mean(axes: Iterable[Axis]) -> Axis:
    """The mean over places of the borders."""
    values = [astuple(axis) for axis in axes]
    return Axis(*(sum(column) / len(values) for column in zip(*values, strict=True)))


def window_axis(length: int, side: int, halo: int = 0, moves: bool = False) -> Axis:
    """Of `windows.windows`; the mean over all shifts where borders move."""
    return mean(
        axis_of((span, grown(span, halo, length)) for span in cut(length, side, shift))
        for shift in (range(side) if moves else (0,))
    )


def neighbourhood_axis(length: int, window: int, patch: int, moves: bool, whole: bool = False) -> Axis:
    """Of `windows.neighbourhoods`; the mean over all offsets where patches move. `whole`: all patches of one size."""
    if not moves:
        starts = [range(0, length, patch)]
    else:
        starts = [range(-offset, length + patch - offset, patch) for offset in range(patch + 1)]
    found = []
    for places in starts:
        spans = [_around(start, length, window, patch) for start in places]
        found.append(axis_of(((0, max(q[1] for q, _ in spans)), k) for _, k in spans) if whole else axis_of(spans))
    return mean(found)


def tiles_attended(
    rows: Axis, columns: Axis, others: int, *, ask: bool = False, own: bool = False, bridge: float = 0
) -> Attended:
    """`windows.attend` and the copies that it makes, the outputs pasted.

    `others` are text and reference tokens, keys of every tile and with `ask` queries too; with `own` they are rotated
    for each tile, those of one shape together. `bridge` are further keys.
    """
    tiles, shapes = rows.spans * columns.spans, rows.shapes * columns.shapes
    asking, more = others if ask else 0, others + bridge
    image, window = rows.queries * columns.queries, rows.keys * columns.keys
    queries, keys = image + tiles * asking, window + tiles * more
    kernel = 2 * queries + 2 * keys
    gathered = 2 * image + (4 if ask else 2) * queries + 2 * (2 * window + 4 * keys)
    pairs = rows.pairs * columns.pairs + image * more + asking * keys
    return Attended(pairs, vectors=kernel + gathered + 2 * image, kernels=14 * tiles + own * TURN * shapes)
