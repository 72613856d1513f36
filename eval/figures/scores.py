"""Plot scores against size and against cost. Reads records only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..metrics.registry import metrics
from ..metrics.types import VOTES
from ..output.manifest import NothingError
from ..records.rows import RENDERS, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C510A", "#762A83", "#1B1B1B", "#B8860B")
"""Colours of Okabe and Ito that are visible on white, and a few more. Markers and line styles differ as well."""
MARKERS = "osD^vPX*<>"


def styles(rows: list[Row]) -> dict[str, dict[str, str]]:
    """Return colour, marker and line style of each label. They are the same in every figure."""
    labels = list(dict.fromkeys(row.label for row in rows if not row.is_reference))
    found: dict[str, dict[str, str]] = {}
    for k, name in enumerate(labels):
        turn = k // len(COLOURS)  # the next ten have other markers with the same colours
        marker, line = MARKERS[(k + turn) % len(MARKERS)], ("-", "--", ":")[turn % 3]
        found[name] = {"color": COLOURS[k % len(COLOURS)], "marker": marker, "linestyle": line}
    return found | {RENDERS: {"color": "#777777", "marker": "_", "linestyle": "--"}}


def against_size(rows: list[Row], caption: str) -> Figure:
    """Plot each metric against size with intervals, one line per method. Raises NothingError if nothing was scored."""
    names = [n for n in metrics() if any("value" in row.cell(n) and not row.is_reference for row in rows)]
    sizes = list(dict.fromkeys((row.size, row.scale) for row in rows if row.run.width))
    if not names or not sizes:
        raise NothingError("no run has a score and a size")
    styled = styles(rows)
    with _panels(len(names), 2.7) as (figure, axes):
        for axis, name in zip(axes, names, strict=True):
            _panel(axis, name, rows, [size for size, _ in sizes], styled)
            axis.set_xticks(range(len(sizes)), [f"{size}\n{scale:.3g}×" if scale else size for size, scale in sizes])
        _legend(figure, axes, styled)
        if caption:
            figure.supxlabel(caption, fontsize=7, color="#444444")
    return figure


@contextmanager
def _panels(count: int, height: float) -> Iterator[tuple[Figure, list]]:
    """Make a figure of `count` panels, three in a row, each `height` inches high."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    across = min(3, count)
    down = -(-count // across)
    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(4.1 * across, height * down + 0.9), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis in axes[count:]:
            axis.set_visible(False)
        yield figure, list(axes[:count])


def _panel(axis, name: str, rows: list[Row], sizes: list[str], styled: dict[str, dict[str, str]]) -> None:
    labels = list(dict.fromkeys(row.label for row in rows))
    for k, label in enumerate(labels):
        points = [
            (sizes.index(row.size), row.cell(name))
            for row in rows
            if row.label == label and row.size in sizes and "value" in row.cell(name)
        ]
        if not points:
            continue
        # Intervals of methods must not hide each other, and all stay nearer to their own size than to the next.
        shift = (k - (len(labels) - 1) / 2) * min(0.05, 0.5 / len(labels))
        x, y = [p + shift for p, _ in points], [cell["value"] for _, cell in points]
        style = styled.get(label, styled.get(RENDERS if label.startswith(RENDERS) else label, {}))
        axis.plot(x, y, label=label, markersize=4.5, linewidth=1.3, **style)
        low = [cell["value"] - cell["low"] if cell["low"] is not None else 0 for _, cell in points]
        high = [cell["high"] - cell["value"] if cell["high"] is not None else 0 for _, cell in points]
        bars = [[max(v, 0) for v in low], [max(v, 0) for v in high]]
        axis.errorbar(x, y, bars, fmt="none", ecolor=style.get("color"), elinewidth=0.9, capsize=1.5, alpha=0.7)
    axis.set_xlim(-0.4, len(sizes) - 0.6)
    _title(axis, name, rows)


def _title(axis, name: str, rows: list[Row]) -> None:
    better = "higher is better" if metrics()[name].higher_is_better else "lower is better"
    titles = [row.cell(name)["title"] for row in rows if "title" in row.cell(name)]
    counts = sorted({row.cell(name)["n"] for row in rows if "value" in row.cell(name)}, reverse=True)
    shown = f", N={', '.join(map(str, counts))}" if metrics()[name].kind in ("fid", VOTES) else ""
    advice = better if metrics()[name].ranked else "compare with the true renders"
    axis.set_title(f"{titles[0]}{shown} ({advice})", fontsize=9)
    axis.grid(axis="y", linewidth=0.4, alpha=0.5)


def _legend(figure, axes, styled: dict[str, dict[str, str]]) -> None:
    handles: dict[str, object] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    order = [name for name in styled if name in handles] + [name for name in handles if name not in styled]
    figure.legend(
        [handles[name] for name in order], order, loc="outside upper center", ncols=min(4, len(order)), frameon=False
    )


COST_AXES = {
    "seconds": "seconds for an image",
    "calls": "transformer calls for an image",
    "memory": "peak memory in MB",
}
COST_KEYS = {"seconds": "seconds", "calls": "calls", "memory": "peak_memory_mb"}


def against_cost(rows: list[Row], caption: str, axis: str = "seconds") -> Figure:
    """Plot each metric against a cost (a key of COST_AXES), one point per method and size.

    Raises NothingError if the cost was not recorded.
    """
    key = COST_KEYS[axis]
    timed = [row for row in rows if row.block["cost"].get(key) and row.run.width and not row.is_reference]
    names = [n for n in metrics() if metrics()[n].ranked and any("value" in row.cell(n) for row in timed)]
    if not names:
        raise NothingError(f"no scored run has recorded the {COST_AXES[axis]}")
    styled = styles(rows)
    sizes = list(dict.fromkeys(row.size for row in timed))
    with _panels(len(names), 2.9) as (figure, axes):
        for panel, name in zip(axes, names, strict=True):
            for row in timed:
                cell = row.cell(name)
                if "value" not in cell:
                    continue
                area = 22 + 30 * sizes.index(row.size)  # larger images, larger points
                style = styled[row.label]
                point = row.block["cost"][key], cell["value"]
                panel.scatter(*point, s=area, color=style["color"], marker=style["marker"], label=row.label, alpha=0.85)
                if cell["low"] is not None:
                    panel.vlines(point[0], cell["low"], cell["high"], color=style["color"], linewidth=0.9, alpha=0.6)
            _costs(panel, [row.block["cost"][key] for row in timed])
            _title(panel, name, timed)
        _legend(figure, axes, styled)
        figure.supxlabel(f"{COST_AXES[axis]}; larger points for {' < '.join(sizes)} px\n{caption}", fontsize=8)
    return figure


def _costs(panel, values: list[float]) -> None:
    """Make the x axis logarithmic, with plain numbers, the same in every panel."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_xscale("log")
    panel.set_xlim(min(values) / 1.3, max(values) * 1.3)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
