"""Compute precision, recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797) of two sets of features.

The ball of a row reaches to its k-th nearest other row of its own set; a row is in it if it is strictly nearer. With
images X and references Y:

  precision  share of images in the ball of a reference
  density    mean over images of the number of such balls, over k; may be above 1
  recall     share of references in the ball of an image
  coverage   share of references whose ball holds an image
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from ..statistics import draws
from .moments import flat

KINDS = ("precision", "recall", "density", "coverage")
ROWS = 1024
"""Rows of a distance matrix that are in memory as float64."""


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """Yield squared distances [at most ROWS, M] of the rows of x [N, D] from those of y [M, D], in order."""
    norms = (y**2).sum(1)
    for start in range(0, len(x), ROWS):
        part = x[start : start + ROWS]
        yield np.maximum((part**2).sum(1)[:, None] + norms - 2 * part @ y.T, 0)


def squared_radii(x: np.ndarray, k: int) -> np.ndarray:
    """Return the squared distance [N] of each row from its k-th nearest other row."""
    found, start = [], 0
    for block in squared_distances(x, x):
        block[np.arange(len(block)), np.arange(start, start + len(block))] = np.inf
        found.append(np.partition(block, k - 1, axis=1)[:, k - 1])
        start += len(block)
    return np.concatenate(found)


def held(kind: str, features: np.ndarray, reference: np.ndarray, k: int) -> np.ndarray:
    """Return which image is in which ball, or for recall in whose ball each reference is: bool [references, images]."""
    x, y = flat(features), flat(reference)
    radii = squared_radii(x, k) if kind == "recall" else squared_radii(y, k)[:, None]
    found, start = [], 0
    for block in squared_distances(y, x):
        found.append(block < (radii if kind == "recall" else radii[start : start + len(block)]))
        start += len(block)
    return np.concatenate(found)


def value(kind: str, inside: np.ndarray, k: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the values [S] where images are taken weights [S, images] times; without weights each once, [1]."""
    weights = np.ones((1, inside.shape[1])) if weights is None else weights
    if kind in ("precision", "density"):
        each = inside.any(0) if kind == "precision" else inside.sum(0) / k
        return weights @ each / weights.sum(1)
    taken = (weights > 0).astype(np.float32).T
    hit = sum((inside[i : i + ROWS].astype(np.float32) @ taken > 0).sum(0) for i in range(0, len(inside), ROWS))
    return hit / len(inside)


def resamples(kind: str, inside: np.ndarray, groups: Sequence[Hashable], k: int, samples: int, seed: int) -> np.ndarray:
    """Return the values [samples] of bootstrap resamples over groups (prompts). All balls stay what they are."""
    place = {name: n for n, name in enumerate(sorted(set(groups), key=str))}
    return value(kind, inside, k, draws(len(place), samples, seed)[:, [place[group] for group in groups]])
