"""Plot scores against size and against cost. Reads records only.

Figures have the width of a page. A few methods share one panel for each metric; many get a column of panels for each
family, in which the others are grey.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..metrics.registry import metrics
from ..metrics.types import VOTES
from ..output.manifest import NothingError
from ..records.rows import RENDERS, Row
from .legend import Legend
from .palette import BASE, GREY, groups, styles
from .text import families, paragraph, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGE = 7.2
"""Width of a figure in inches."""
SMALL = 6.5
"""Size of the text in points."""
PANEL = 1.35
"""Height of a panel in inches."""


def against_size(rows: list[Row], caption: str) -> Figure:
    """Plot each metric against size with intervals, one line per method. Raises NothingError if nothing was scored."""
    names = [n for n in metrics() if any("value" in row.cell(n) and not row.is_reference for row in rows)]
    sizes = _sizes(rows)
    if not names or not sizes:
        raise NothingError("no run has a score and a size")
    marks = {
        row.size: f"{row.size}\n{row.scale:.3g}×" if row.scale else row.size for row in reversed(rows) if row.run.width
    }
    turned = 90 if len(sizes) > 5 else 0

    def draw(panel: Axes, name: str, labels: list[str], styled: dict[str, Any]) -> None:
        for label, style, grey in _drawn(rows, labels, styled):
            points = [row for row in rows if row.label == label and row.size in sizes and "value" in row.cell(name)]
            points.sort(key=lambda row: sizes.index(row.size))
            place = (len(labels) - 1) / 2 if grey or label not in labels else labels.index(label)
            # Intervals of methods must not hide each other, and all stay nearer to their own size than to the next.
            shift = (place - (len(labels) - 1) / 2) * min(0.08, 0.6 / max(1, len(labels)))
            for line in _lines(points):
                x = [sizes.index(row.size) + shift for row in line]
                panel.plot(x, [row.cell(name)["value"] for row in line], **style)
            if not grey:
                _intervals(panel, name, points, [sizes.index(row.size) + shift for row in points], style["color"])
        panel.set_xlim(-0.5, len(sizes) - 0.5)
        panel.set_xticks(range(len(sizes)), [marks[size] for size in sizes], rotation=turned, fontsize=SMALL - 1)

    return _figure(rows, names, draw, "size in pixels", caption)


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
    areas = {row.size: _area(row.run.size) for row in timed}
    sizes = sorted(areas, key=lambda size: (areas[size], size))
    costs = [row.block["cost"][key] for row in timed]

    def draw(panel: Axes, name: str, labels: list[str], styled: dict[str, Any]) -> None:
        for label, style, grey in _drawn(timed, labels, styled):
            points = [row for row in timed if row.label == label and "value" in row.cell(name)]
            x = [row.block["cost"][key] * (1 if grey else _beside(row, timed, labels, key)) for row in points]
            look = {k: v for k, v in style.items() if k in ("color", "marker", "zorder")}
            for row, cost in zip(points, x, strict=True):
                area = 7 if grey else 14 + 9 * sizes.index(row.size)  # larger images, larger points
                panel.scatter(cost, row.cell(name)["value"], s=area, linewidths=0, alpha=0.9, **look)
            if not grey:
                _intervals(panel, name, points, x, style["color"])
        _costs(panel, costs)

    larger = f"larger points: {' < '.join(sizes)} px; " if len(sizes) > 1 else ""
    about = f"{COST_AXES[axis]} ({larger}equal costs side by side)"
    return _figure(timed, names, draw, about, caption)


def _sizes(rows: list[Row]) -> list[str]:
    """Return the sizes of rows by area, square ones before others."""
    shapes = {row.size: row.run.size for row in rows if row.run.size}
    return sorted(shapes, key=lambda size: (shapes[size][0] != shapes[size][1], _area(shapes[size]), size))


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _lines(points: list[Row]) -> list[list[Row]]:
    """Split the points of a method into lines: one for each shape of images."""
    found: dict[float, list[Row]] = {}
    for row in points:
        found.setdefault(round(row.run.width / row.run.height, 2), []).append(row)
    return list(found.values())


def _drawn(rows: list[Row], labels: list[str], styled: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield the lines of a panel with their style and whether they are grey: those of other panels first."""
    present = list(dict.fromkeys(row.label for row in rows))
    always = [label for label in present if label.startswith(RENDERS) or label == BASE]
    for label in present:
        if label not in labels and label not in always:
            yield label, {"color": GREY, "marker": ".", "markersize": 2, "linewidth": 0.5, "zorder": 1}, True
    for label in [*always, *(label for label in labels if label in present)]:
        style = styled[RENDERS if label.startswith(RENDERS) else label]
        yield label, style | {"markersize": 3.2, "linewidth": 1, "zorder": 3}, False


def _intervals(panel: Axes, name: str, points: list[Row], x: list[float], colour: str) -> None:
    """Draw the stored intervals, from their lower to their upper end."""
    for row, place in zip(points, x, strict=True):
        cell = row.cell(name)
        if cell["low"] is not None:
            panel.vlines(place, cell["low"], cell["high"], color=colour, linewidth=0.7, alpha=0.55, zorder=2)


def _beside(row: Row, rows: list[Row], labels: list[str], key: str) -> float:
    """Return the factor that moves a point beside others of the panel with the same size and cost."""
    same = [
        other.label
        for other in rows
        if (other.label in labels or other.label == BASE)
        and other.size == row.size
        and other.block["cost"][key] == row.block["cost"][key]
    ]
    return 1.04 ** (same.index(row.label) - (len(same) - 1) / 2) if row.label in same else 1.0


def _costs(panel: Axes, values: list[float]) -> None:
    """Make the x axis logarithmic, with plain numbers, the same in every panel."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_xscale("log")
    panel.set_xlim(min(values) / 1.3, max(values) * 1.3)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) < 200 * min(values) else (1,)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def _figure(rows: list[Row], names: list[str], draw: Callable[..., None], below: str, caption: str) -> Figure:
    """Draw the panels: three metrics in a row, or a metric in each row with a column for each group of methods."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    parts, styled = groups(rows), styles(rows)
    across = min(3, len(names)) if len(parts) == 1 else len(parts)
    down = -(-len(names) // across) if len(parts) == 1 else len(names)
    look = {"font.size": SMALL, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6}
    with rc_context(look | {"font.family": families([row.label for row in rows] + [caption])}):
        legend = Legend.of(rows, PAGE, SMALL)
        figure = Figure(figsize=(PAGE, legend.height + PANEL * down + 0.6), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=(legend.height, PANEL * down + 0.6))
        legend.draw(top)
        panels = bottom.subplots(down, across, squeeze=False, sharey="row" if len(parts) > 1 else False)
        for k, name in enumerate(names):
            line = panels[k] if len(parts) > 1 else panels.ravel()[k : k + 1]
            for panel, labels in zip(line, parts.values(), strict=True):
                draw(panel, name, labels, styled)
                panel.grid(axis="y", linewidth=0.4, alpha=0.5)
                panel.tick_params(width=0.6, length=2.5)
                panel.label_outer(remove_inner_ticks=True) if len(parts) > 1 else None
            _title(line[0], name, rows, PAGE / (across if len(parts) == 1 else 1) - 0.4)
            _floor(line[0], name, rows)
        for panel in panels.ravel()[len(names) :] if len(parts) == 1 else ():
            panel.set_visible(False)
        bottom.supxlabel("\n".join(filter(None, [below, paragraph(caption, PAGE, SMALL, 3)])), fontsize=SMALL)
    return figure


def _floor(panel: Axes, name: str, rows: list[Row]) -> None:
    """Let an axis begin at 0 if its margin alone goes below: all values and intervals of the metric are above."""
    cells = [cell for row in rows if "value" in (cell := row.cell(name))]
    least = min(cell["value"] if cell["low"] is None else cell["low"] for cell in cells)
    low, high = panel.get_ylim()
    if low < 0 <= least:
        panel.set_ylim(-0.02 * high, high)


def _title(panel: Axes, name: str, rows: list[Row], inches: float) -> None:
    better = "higher is better" if metrics()[name].higher_is_better else "lower is better"
    titles = [row.cell(name)["title"] for row in rows if "title" in row.cell(name)]
    counts = sorted({row.cell(name)["n"] for row in rows if "value" in row.cell(name)}, reverse=True)
    shown = f", N={', '.join(map(str, counts))}" if metrics()[name].kind in ("fid", VOTES) else ""
    advice = better if metrics()[name].ranked else "compare with the true renders"
    panel.set_title(paragraph(f"{titles[0]}{shown} ({advice})", inches, SMALL, 2), fontsize=SMALL, loc="left", pad=3)
    panel.set_ylabel(plain(metrics()[name].unit))
