"""Format numbers with their significant digits."""

from __future__ import annotations

import math

from ..records.schema import Interval, MetricScore

SKEW = 0.2
"""Distance of the middle of an interval from its value, in half widths, from which its ends are shown."""

ROUNDING = 1e-12
"""Size below which a value is 0 but for the rounding of a sum."""


def number(value: float, digits: int) -> str:
    """Format a value with `digits` decimals: fewer above 1000, more below 0.1 to keep two significant digits."""
    return fixed(value, decimals(value, digits))


def decimals(value: float, digits: int) -> int:
    """Return the number of decimals that `number` shows."""
    size = magnitude(value)
    if size < -1:
        return max(digits, min(8, 1 - size))
    return min(digits, 1) if size > 2 else digits


def magnitude(value: float) -> int:
    """Return the power of ten of the first digit of a value, 0 for 0 and for an error of rounding."""
    return math.floor(math.log10(abs(value))) if abs(value) > ROUNDING else 0


def fixed(value: float, decimals: int) -> str:
    """Format a value with so many decimals, and 0 without a sign."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def measured(value: float, low: float | None, high: float | None, digits: int) -> str:
    """Format a value with its interval: `41.2 ±3.4` (half its width), or `0.7 [0.2, 2.6]` where ± would mislead."""
    text = number(value, digits)
    if low is None or high is None:
        return text
    places = decimals(value, digits)
    if is_even(value, low, high):
        return f"{text} ±{fixed((high - low) / 2, places)}"
    places = min(places, max(1 - magnitude(high - low), 0))  # two digits of the width
    return f"{text} [{fixed(low, places)}, {fixed(high, places)}]"


def is_even(value: float, low: float, high: float) -> bool:
    """Return whether value ± half the width says what the interval says.

    It does not if the value is far from the middle, or if ± reaches over 0 or 1 and the interval does not, as for a
    share or a distance.
    """
    half = (high - low) / 2
    over = any(value - half < end <= low or high <= end < value + half for end in (0, 1))
    return not over and abs((low + high) / 2 - value) <= SKEW * half


def with_interval(cell: MetricScore | Interval, digits: int) -> str:
    """Format the value of a cell, as `measured` does."""
    return measured(cell["value"], cell["low"], cell["high"], digits)
