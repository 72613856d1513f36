"""Legends above the panels of a figure: one for each group of methods, and one of what is in every panel."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..records.rows import RENDERS, Row
from .palette import BASE, GREY, Style, groups, styles
from .text import paragraph

LINE = 0.125
"""Height of a line in inches."""
HANDLE = 0.42
"""Width in inches of a line with its marker and the space around."""


class Legend(NamedTuple):
    """The entries of each group, those of all panels, and the size of the text in points."""

    sections: dict[str, dict[str, Style]]
    common: dict[str, Style]
    width: float  # of the figure, in inches
    points: float

    @classmethod
    def of(cls, rows: list[Row], width: float, points: float) -> Legend:
        """Return the legend of the rows of a figure."""
        styled, parts = styles(rows), groups(rows)
        common = {label: styled[label] for label in (BASE, RENDERS) if any(row.label.startswith(label) for row in rows)}
        sections = {name: {label: styled[label] for label in labels} for name, labels in parts.items()}
        if len(parts) == 1:
            return cls({"": common | sections[""]}, {}, width, points)
        return cls(sections, common | {"methods of the other columns": {"color": GREY, "marker": "."}}, width, points)

    @property
    def columns(self) -> int:
        """Columns of the legend of a group."""
        return 5 if len(self.sections) == 1 else 2 if len(self.sections) < 4 else 1

    def text(self, label: str) -> str:
        """Return a label, broken into lines. matplotlib leaves out what begins with _, so a mark without width does."""
        broken = paragraph(label, self.width / len(self.sections) / self.columns - HANDLE, self.points, 4)
        return f"\u200b{broken}" if broken.startswith("_") else broken

    @property
    def height(self) -> float:
        """Height in inches."""
        most = 0
        for section in self.sections.values():
            lines = [self.text(label).count("\n") + 1 for label in section]
            share = -(-len(lines) // self.columns)
            most = max(most, *(sum(lines[k * share : (k + 1) * share]) for k in range(self.columns)))
        return LINE * (most + (2 if self.common else 0)) + 0.2

    def draw(self, figure: Any) -> None:
        """Draw the legends into a figure or subfigure of this height."""
        from matplotlib.lines import Line2D

        look = {"frameon": False, "fontsize": self.points, "handlelength": 1.8, "borderpad": 0, "labelspacing": 0.3}
        look |= {"columnspacing": 1.2, "alignment": "left"}

        def box(entries: dict[str, Style], **options: Any) -> Any:
            handles = [Line2D([], [], markersize=4, linewidth=1, **style) for style in entries.values()]
            return figure.legend(handles, [self.text(label) for label in entries], **options, **look)

        for k, (name, entries) in enumerate(self.sections.items()):
            left = 0.05 + 0.95 * k / len(self.sections)
            made = box(entries, loc="upper left", bbox_to_anchor=(left, 1), ncols=self.columns, title=name or None)
            made.get_title().set_fontweight("bold")
        if self.common:
            handles = [Line2D([], [], markersize=4, linewidth=1, **style) for style in self.common.values()]
            figure.legend(handles, list(self.common), loc="lower center", ncols=3, **look)
