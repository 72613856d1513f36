"""Read features in blocks of rows and compute their moments for FID.

Features are [N, D], or [N, C, D] with C crops per image. All sums are float64, over blocks of rows in order, so they
need little memory. The features may be on disk (`numpy.memmap`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ROWS = 2048
"""Number of rows that are in memory as float64."""


@dataclass(frozen=True)
class Moments:
    """Moments of a set: the sum of its rows [D], of their outer products [D, D], and the number of rows."""

    sum: np.ndarray
    outer: np.ndarray
    count: int

    @classmethod
    def of(cls, features: np.ndarray) -> Moments:
        """Return the float64 moments of features."""
        dimension = features.shape[-1]
        total, outer, count = np.zeros(dimension), np.zeros((dimension, dimension)), 0
        for block in blocks(features):
            total += block.sum(0)
            outer += block.T @ block
            count += len(block)
        return cls(total, outer, count)

    def without(self, part: Moments) -> Moments:
        """Return the moments of the rows that are not in a part of the set."""
        return Moments(self.sum - part.sum, self.outer - part.outer, self.count - part.count)

    @property
    def mean(self) -> np.ndarray:
        """[D]."""
        return self.sum / self.count

    @property
    def covariance(self) -> np.ndarray:
        """[D, D], unbiased."""
        return (self.outer - np.outer(self.sum, self.mean)) / (self.count - 1)


def moments(features: np.ndarray | Moments) -> Moments:
    """Return the moments of features. Moments are returned as they are."""
    return features if isinstance(features, Moments) else Moments.of(features)


def blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    """Yield float64 blocks [at most ROWS, D] of features [N, D] or [N, C, D]."""
    step = max(1, ROWS // int(np.prod(features.shape[1:-1])))
    for start in range(0, len(features), step):
        yield flat(features[start : start + step])


def flat(features: np.ndarray) -> np.ndarray:
    """Return features with or without a crop dimension as float64 [rows, D]."""
    return np.ascontiguousarray(features.reshape(-1, features.shape[-1]), np.float64)


def count(features: np.ndarray) -> int:
    """Return the number of rows of features with or without a crop dimension."""
    return int(np.prod(features.shape[:-1]))
