"""Colours and markers of methods, and the families in which a figure of many methods shows them."""

from __future__ import annotations

from functools import cache

from sega.errors import RequestError

from ..records.rows import RENDERS, Row

COLOURS = ("#EE3377", "#009988", "#5E3C99", "#E6AB02", "#33BBEE", "#7B3F00", "#003F5C", "#FF7F50", "#808000", "#7570B3")
"""Colours that differ from each other, from black and from GREY also for readers who see two of three primaries."""
MARKERS = "osD^vPX*<>"
BASE = "vanilla"
GREY = "#BBBBBB"
FAMILIES = ("direct", "patterns", "staged", "other")
Style = dict[str, str]


@cache
def family(method: str) -> str:
    """Return the family of a method: staged, an attention pattern, direct, or "other" if this machine lacks it."""
    from sega.methods.registry import method_class
    from sega.methods.staged import PATTERNS

    try:
        staged = method_class(method).staged
    except RequestError:
        return "other"
    return "staged" if staged else "patterns" if method in PATTERNS else "direct"


def groups(rows: list[Row]) -> dict[str, list[str]]:
    """Return the labels that share a panel, by its name. Vanilla and true renders are in every panel.

    All methods share one ("") while there are colours for them. More are split by family, large families into parts.
    """
    labels = {row.label: row.run.method for row in rows if not row.is_reference and row.label != BASE}
    if len(labels) <= len(COLOURS):
        return {"": list(labels)}
    found: dict[str, list[str]] = {}
    for name in FAMILIES:
        members = [label for label, method in labels.items() if family(method) == name]
        parts = -(-len(members) // len(COLOURS))
        for k in range(parts):
            share = -(-len(members) // parts)
            found[f"{name}, part {k + 1}" if parts > 1 else name] = members[k * share : (k + 1) * share]
    return found


def styles(rows: list[Row]) -> dict[str, Style]:
    """Return colour, marker and line style of each label. No two labels of a group have the same colour."""
    found: dict[str, Style] = {}
    if any(row.label == BASE for row in rows):
        found[BASE] = {"color": "#000000", "marker": "h", "linestyle": "-"}
    for labels in groups(rows).values():
        found |= {label: style(k) for k, label in enumerate(labels)}
    return found | {RENDERS: {"color": "#666666", "marker": "_", "linestyle": "--"}}


def style(k: int) -> Style:
    """Return the style of the k-th line of a panel. From the eleventh on, lines are dashed and dotted."""
    turn = k // len(COLOURS)
    marker, line = MARKERS[(k + turn) % len(MARKERS)], ("-", "--", ":")[turn % 3]
    return {"color": COLOURS[k % len(COLOURS)], "marker": marker, "linestyle": line}
