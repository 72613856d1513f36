"""Intervals of differences as small SVG drawings in the cells of a table, on one scale for a column."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .types import Effect

WIDTH, HEIGHT = 120, 14


def reach(effects: Iterable[Effect]) -> float:
    """Return the scale of a column: the largest distance of an interval's end from 0, the widest tenth left out.

    What lies beyond it is drawn at the edge, so that one wild entry does not hide the others.
    """
    ends = sorted(max(abs(e.low or e.value), abs(e.high or e.value), abs(e.value)) for e in effects)
    return (ends[math.ceil(0.9 * (len(ends) - 1))] if ends else 0.0) or 1.0


def interval(effect: Effect, scale: float) -> str:
    """Draw the interval of a difference, with a line at 0; `on` where there is a verdict."""

    def x(value: float) -> float:
        return min(max(WIDTH / 2 * (1 + 0.92 * value / scale), 1), WIDTH - 1)

    kind, middle = "on" if effect.verdict else "off", HEIGHT / 2
    low, high = (x(effect.value if end is None else end) for end in (effect.low, effect.high))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="effect" aria-hidden="true">'
        f'<line class="axis" x1="{WIDTH / 2:g}" x2="{WIDTH / 2:g}" y1="0" y2="{HEIGHT}"/>'
        f'<line class="bar {kind}" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:g}" y2="{middle:g}"/>'
        f'<circle class="dot {kind}" cx="{x(effect.value):.1f}" cy="{middle:g}" r="3"/></svg>'
    )
