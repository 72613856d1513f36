"""Write the summary that a report prints: one table per size above the training size, at most 80 columns wide."""

from __future__ import annotations

import textwrap
from pathlib import Path

from ..metrics.registry import metrics
from ..metrics.types import OTHERS
from ..output.numbers import with_interval
from ..records.rows import EMBEDDED, Row, is_embedded
from .tables import Marks, costs

WIDTH = 80
TITLES = {
    "attribute_accuracy": "attributes ↑",
    "clip_score": "CLIP score ↑",
    "imagereward": "reward ↑",
    "fid": "FID ↓",
    "spectrum_distance": "spectrum dB ↓",
    "high_frequency": "high freq. dB",
}
"""Metrics of the summary, in this order. Metrics that are not scored are left out."""
SETS = {"fid": "↓", "kid": "↓", "is": "↑", "mmd": "↓"}
"""Metrics of the summary of a protocol whose features are not those of FID."""


def summary(rows: list[Row], marks: Marks) -> str:
    """Return the table of each model, protocol and size, with notes on counts and intervals."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    large = {key for key, group in groups.items() if (group[0].scale or 2) > 1}
    families = {key[:2] for key in large}
    shown = [group for key, group in groups.items() if key in large or key[:2] not in families]
    parts = [_table(group, marks) for group in shown]
    notes = [_once(group) for key, group in groups.items() if key not in large and key[:2] in families]
    words = [*filter(None, notes), _intervals(rows, any(" *" in part for part in parts))] + (
        [EMBEDDED] if is_embedded(rows) else []
    )
    return "\n".join([*parts, *(textwrap.fill(text, WIDTH) for text in words)]) + "\n"


def where_to_look(files: list[Path]) -> str:
    """Return the file to open first: the gallery, or the grid of the largest images, or the table."""
    pages = [path for path in files if path.name == "index.html"]
    grids = [path for path in files if path.name.startswith("grid-")]
    found = pages[-1:] or grids[-1:] or [path for path in files if path.name == "table.md"]
    return f"Open {found[0]}" if found else ""


def _table(group: list[Row], marks: Marks) -> str:
    titles = _titles(group)
    names = [name for name in titles if any("value" in row.cell(name) for row in group)]
    less, label = 0, 26
    while True:
        head = ["method", *(titles[name] for name in names), "s/image"]
        body = [
            [_short(row.label, label), *(_cell(row, name, marks, less) for name in names), costs(row)[0]]
            for row in group
        ]
        widths = [max(len(line[k]) for line in [head, *body]) for k in range(len(head))]
        if sum(widths) + 2 * (len(widths) - 1) <= WIDTH or (less and label < 26 and len(names) <= 1):
            break
        if not less:
            less = 1
        elif label == 26:
            label = 18
        else:
            names.pop()
    first, scale = group[0], group[0].scale
    of = f", {scale:.3g}x the training side" if scale else ""
    counts = sorted({row.block["n"] for row in group if not row.is_reference}) or [first.block["n"]]
    n = f"N={counts[0]}" if len(counts) == 1 else f"N={counts[0]} to {counts[-1]}"
    network = OTHERS.get(first.block["settings"].get("features"))
    under = f"protocol {first.protocol}{f', features of {network}' if network else ''}"
    title = textwrap.fill(f"{first.run.model} at {first.size}{of}: {n} images per method ({under})", WIDTH)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in [head, *body]]
    return "\n".join([textwrap.fill(title, WIDTH), "", *(line.rstrip() for line in lines), ""])


def _titles(group: list[Row]) -> dict[str, str]:
    """Return the titles of the metrics of a group. The network is named above the table, since its name is long."""
    if group[0].block["settings"].get("features") not in OTHERS:
        return TITLES
    return {name: f"{metrics()[name].general} {arrow}" for name, arrow in SETS.items()}


def _cell(row: Row, name: str, marks: Marks, less: int = 0) -> str:
    cell = row.cell(name)
    if "value" not in cell:
        return "–"
    text = with_interval(cell, max(cell["digits"] - less, 1))
    return f"{text} *" if marks.of(row, name) == "best" else text


def _short(label: str, width: int) -> str:
    return label if len(label) <= width else label[: width - 1] + "…"


def _once(group: list[Row]) -> str:
    """Return one sentence on a group at the training size that contains the plain model only."""
    methods = {row.run.method for row in group if not row.is_reference}
    if methods != {"vanilla"} or _titles(group) is not TITLES:
        return ""
    row = next(row for row in group if row.run.method == "vanilla")
    values = [
        f"{TITLES[name].rstrip(' ↑↓')} {_cell(row, name, Marks({}))}" for name in TITLES if "value" in row.cell(name)
    ]
    return (
        f"At {row.scale or 1:.3g}x ({row.size}) the direct methods equal the plain model bit for bit, so it was made "
        f"once (N={row.block['n']}): {', '.join(values[:3])}."
    )


def _intervals(rows: list[Row], starred: bool) -> str:
    options = rows[0].block["settings"]["bootstrap"]
    verdict = "* is the best of its column: better than every other method in a paired test (Holm)"
    if not starred:
        verdict = "no value is marked as the best: none is better than all others in a paired test (Holm)"
    fid = list(dict.fromkeys(_titles([row])["fid"][:-2] for row in rows if "warning" in row.cell("fid")))
    few = f"; {' or '.join(fid)} of so few images is biased upwards: compare it within its column only"
    ends = f"± is half of a {options['level']:.0%} interval over prompts, [low, high] an uneven one"
    return f"{ends}; {verdict}{few if fid else ''}."
