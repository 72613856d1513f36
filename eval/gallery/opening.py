"""Choose what the gallery opens on: the plain model beside the run that is best against it, where they differ most."""

from __future__ import annotations

from ..metrics.registry import metrics
from ..metrics.types import Metric
from ..records.rows import Row
from ..records.runs import Key

FIRST = ("attribute_accuracy", "clip_score")
"""Metrics that decide, one after the other; without them the first of the protocol whose extreme is the best value."""
PLAIN = "vanilla"


def opening(rows: list[Row]) -> tuple[Row, Row, Key] | None:
    """Return two rows of one model and size, and the image (prompt id, seed) to open on.

    The first row is the plain model, or the first one if it was not run. The second has the largest mean gain over it
    on common images, and the image is that of its largest gain. None if no run gains on another.
    """
    runs = [row for row in rows if not row.is_reference]
    if not runs:
        return None
    plain = next((row for row in runs if row.run.method == PLAIN), runs[0])
    found = []
    for row in runs:
        gains = _gains(plain, row, _deciding(plain))
        if gains:
            mean = [sum(values) / len(gains) for values in zip(*gains.values(), strict=True)]
            found.append((mean, row, gains))
    mean, best, gains = max(found, key=lambda item: item[0], default=([], plain, {}))
    return (plain, best, max(gains, key=lambda key: gains[key])) if any(value > 0 for value in mean) else None


def _deciding(row: Row) -> list[Metric]:
    """The metrics that decide, in their order."""
    known = [metrics()[name] for name in row.block["metrics"] if name in metrics()]
    each = [metric for metric in known if not metric.is_of_set and metric.ranked]
    return [metric for name in FIRST for metric in each if metric.name == name] or each[:1]


def _gains(before: Row, after: Row, deciding: list[Metric]) -> dict[Key, list[float]]:
    """What a row gains on another, image by image and metric by metric; images that lack a value are left out."""
    values = [(1 if m.higher_is_better else -1, before.values(m.value), after.values(m.value)) for m in deciding]
    common = [key for key in after.images if values and all(key in old and key in new for _, old, new in values)]
    return {key: [sign * (new[key] - old[key]) for sign, old, new in values] for key in common}
