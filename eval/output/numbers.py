"""Format numbers with their significant digits."""

from __future__ import annotations

import math

from ..records.schema import Interval, MetricScore


def number(value: float, digits: int) -> str:
    """Format a value with `digits` decimals: fewer above 1000, more below 0.1 to keep two significant digits."""
    size = math.floor(math.log10(abs(value))) if value else 0
    if size < -1:
        digits = max(digits, min(8, 1 - size))
    elif size > 2:
        digits = min(digits, 1)
    return f"{value:.{digits}f}"


def measured(value: float, low: float | None, high: float | None, digits: int) -> str:
    """Format a value and half the width of its interval, if it has one: `41.2 ±3.4`."""
    text = number(value, digits)
    if low is None or high is None:
        return text
    return f"{text} ±{(high - low) / 2:.{len(text.partition('.')[2])}f}"


def with_interval(cell: MetricScore | Interval, digits: int) -> str:
    """Format the value of a cell, as `measured` does."""
    return measured(cell["value"], cell["low"], cell["high"], digits)
