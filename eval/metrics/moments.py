"""Features in blocks of rows, and the moments FID needs of them.

Everything runs in float64 on features [N, D] that are already computed; an image with several crops has [N, C, D].
Sums go over blocks of rows in the order given, so memory does not grow with the number of images beyond the features
themselves, which may lie on disk (`numpy.memmap`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ROWS = 2048
"""Rows that are in memory in float64 at once."""


@dataclass(frozen=True)
class Moments:
    """What FID needs of a set: the sum of its rows [D], of their outer products [D, D], and their number."""

    sum: np.ndarray
    outer: np.ndarray
    count: int

    @classmethod
    def of(cls, features: np.ndarray) -> Moments:
        """Float64 moments of features, row by row in blocks."""
        dimension = features.shape[-1]
        total, outer, count = np.zeros(dimension), np.zeros((dimension, dimension)), 0
        for block in blocks(features):
            total += block.sum(0)
            outer += block.T @ block
            count += len(block)
        return cls(total, outer, count)

    @property
    def mean(self) -> np.ndarray:
        """[D]."""
        return self.sum / self.count

    @property
    def covariance(self) -> np.ndarray:
        """[D, D], unbiased."""
        return (self.outer - np.outer(self.sum, self.mean)) / (self.count - 1)


def moments(features: np.ndarray | Moments) -> Moments:
    """Moments of features, or the moments given."""
    return features if isinstance(features, Moments) else Moments.of(features)


def blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    """Float64 blocks [at most ROWS, D] of features [N, D] or [N, C, D], which may be of any type or on disk."""
    step = max(1, ROWS // int(np.prod(features.shape[1:-1])))
    for start in range(0, len(features), step):
        yield flat(features[start : start + step])


def flat(features: np.ndarray) -> np.ndarray:
    """float64 [rows, D] of features with or without a crop dimension."""
    return np.ascontiguousarray(features.reshape(-1, features.shape[-1]), np.float64)


def count(features: np.ndarray) -> int:
    """Rows of features with or without a crop dimension."""
    return int(np.prod(features.shape[:-1]))
