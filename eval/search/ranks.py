"""The objective of a search: the mean of ranks among the starting points.

A rank among all trials would change with every new one, and a sampler can't learn from values that move. So the ranks
are those among the starting points, which are all made first and never change: 1 is as good as the best of them by a
metric, K as bad as the last of K. Equal starting points share the mean of their ranks; between neighbours the rank is
linear in the metric. Beyond either end it goes on towards 0 or K + 1, which it never reaches, so that no metric wins or
loses more than one rank there: a distance d from the end leaves 1/(1 + d) of it, in units of the mean distance between
neighbours in that half of the points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

RULE = 1
"""Version of what follows. A search that was begun under another one is not continued. Raise it with any change."""
Scores = Mapping[str, float]
"""Metric -> value."""


def badness(value: float, direction: str) -> float:
    """Return a value that is lower where the metric is better. `direction` is higher, lower or zero."""
    return {"higher": -value, "lower": value, "zero": abs(value)}[direction]


@dataclass(frozen=True)
class Scale:
    """Ranks by one metric among the K starting points."""

    nodes: np.ndarray  # different values of badness, rising
    ranks: np.ndarray  # of the nodes, between 1 and K
    lengths: tuple[float, float]  # mean distance between neighbours in the better half and in the worse half
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Scale:
        """Return the scale of the badness of starting points, at least one."""
        import numpy as np

        ordered = np.sort(np.asarray(values, np.float64))
        nodes = np.unique(ordered)
        first, last = np.searchsorted(ordered, nodes, "left"), np.searchsorted(ordered, nodes, "right")
        half = max((len(ordered) - 1) / 2, 0.5)
        ends = [float(np.median(ordered) - ordered[0]), float(ordered[-1] - np.median(ordered))]
        whole = float(ordered[-1] - ordered[0]) or abs(float(ordered[0])) or 1.0
        below, above = (end / half if end > 0 else whole / half for end in ends)
        return cls(nodes, (first + 1 + last) / 2, (below, above), len(ordered))

    def rank(self, value: float) -> float:
        """Return the rank of a badness, above 0 and below K + 1; K + 1 if it is not finite."""
        if not math.isfinite(value):
            return self.count + 1.0
        if value < self.nodes[0]:
            return float(self.ranks[0]) / (1 + (self.nodes[0] - value) / self.lengths[0])
        if value > self.nodes[-1]:
            room = self.count + 1.0 - float(self.ranks[-1])
            return self.count + 1.0 - room / (1 + (value - self.nodes[-1]) / self.lengths[1])
        import numpy as np

        return float(np.interp(value, self.nodes, self.ranks))


class Population:
    """The starting points with their scores on the same prompts."""

    def __init__(self, scores: Mapping[str, Scores], directions: Mapping[str, str]):
        self.directions = dict(directions)
        self._scales = {
            name: Scale.of([badness(found[name], direction) for found in scores.values()])
            for name, direction in directions.items()
        }
        self.ranks = {label: self.rank(found) for label, found in scores.items()}

    def by_metric(self, scores: Scores) -> dict[str, float]:
        """Return the rank by each metric."""
        return {name: self._scales[name].rank(badness(scores[name], how)) for name, how in self.directions.items()}

    def rank(self, scores: Scores) -> float:
        """Return the mean rank over the metrics: lower is better."""
        ranks = self.by_metric(scores).values()
        return sum(ranks) / len(ranks)

    def beating(self, rank: float, among: Sequence[str] | None = None) -> list[str]:
        """Return the starting points with a lower mean rank, in `among` only where it is given."""
        return [label for label, own in self.ranks.items() if own < rank and (among is None or label in among)]
