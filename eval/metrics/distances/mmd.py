"""Compute the squared maximum mean discrepancy: KID by torchmetrics, CMMD, and their jackknife intervals."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np

from ..statistics import Estimate, jackknife_interval
from .moments import blocks, count

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def kid(features: np.ndarray, reference: np.ndarray, subsets: int, size: int, seed: int) -> tuple[float, float]:
    """Return KID by torchmetrics' MMD: mean and standard deviation over seeded subsets of `size` rows of each set.

    Subsets are drawn as torchmetrics' KernelInceptionDistance draws them (a permutation of the references, then one of
    the images), but with their own seed. Only their rows are read.
    """
    import torch
    from torchmetrics.image.kid import poly_mmd

    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(subsets):
        y, x = (
            torch.from_numpy(_rows(set_, torch.randperm(count(set_), generator=generator)[:size].numpy()))
            for set_ in (reference, features)
        )
        found.append(poly_mmd(y, x, degree=3, gamma=None, coef=1.0))
    values = torch.stack(found)
    return float(values.mean()), float(values.std(unbiased=False))


def _rows(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return rows of flattened features, float64 [len(rows), D]. Other rows are not read."""
    if features.ndim == 2:
        return np.asarray(features[rows], np.float64)
    return np.asarray(features[rows // features.shape[1], rows % features.shape[1]], np.float64)


def subset_size(setting: int | str, *counts: int) -> int:
    """Return the rows of a KID subset. `auto`: half of the smallest set, at most 1000, so that subsets differ."""
    if setting == "auto":
        return max(2, min(1000, min(counts) // 2))
    return min(int(setting), *counts)


def polynomial(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the kernel of KID: (x.y / D + 1)^3."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the kernel of CMMD (arXiv 2401.09603), 1000 exp(-|x - y|^2 / 200), of rows scaled to unit length."""
    x, y = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (x, y))
    return 1000 * np.exp((x @ y.T - 1) / 100)


def mmd(features: np.ndarray, reference: np.ndarray, kernel: Kernel = polynomial) -> float:
    """Return the unbiased squared MMD of the full sets: the value that KID estimates, or CMMD with `gaussian`.

    The public code of CMMD includes the diagonal of the kernel, a bias for small sets. It is left out here.
    """
    m, n = count(features), count(reference)
    within = sum(_own(features, kernel)) / (m * (m - 1))
    across = sum(float(kernel(x, y).sum()) for x in blocks(features) for y in blocks(reference))
    return within + sum(_own(reference, kernel)) / (n * (n - 1)) - 2 * across / (m * n)


def _own(features: np.ndarray, kernel: Kernel) -> Iterator[float]:
    """Yield sums of the kernel of a set with itself, block by block, without the diagonal."""
    for i, x in enumerate(blocks(features)):
        for j, y in enumerate(blocks(features)):
            if i <= j:
                k = kernel(x, y)
                yield 2.0 * float(k.sum()) if i < j else float(k.sum() - np.trace(k))


def interval(
    value: float,
    features: np.ndarray,
    groups: Sequence[Hashable],
    reference: np.ndarray,
    level: float = 0.95,
    kernel: Kernel = polynomial,
) -> Estimate:
    """Return the jackknife interval of a squared MMD (KID, CMMD) over prompts, with fixed references.

    The estimate is unbiased, so it and its interval may be negative where the distance is near 0.
    """
    names = sorted(set(groups), key=str)
    if len(names) < 3:
        return Estimate(value, None, None, len(features))
    return jackknife_interval(value, without_each(features, groups, reference, kernel), level, len(features))


def without_each(
    features: np.ndarray, groups: Sequence[Hashable], reference: np.ndarray, kernel: Kernel = polynomial
) -> np.ndarray:
    """Return the unbiased squared MMD of the full sets without each group: [groups]."""
    place = {name: k for k, name in enumerate(sorted(set(groups), key=str))}
    crops = count(features) // len(features)
    member = np.repeat([place[group] for group in groups], crops)
    counts = np.bincount(member, minlength=len(place)).astype(float)
    within, diagonal, across = np.zeros(len(place)), np.zeros(len(place)), np.zeros(len(place))
    start = 0
    for x in blocks(features):
        rows = member[start : start + len(x)]
        across += sum(np.bincount(rows, kernel(x, y).sum(1), len(place)) for y in blocks(reference))
        other = 0
        for y in blocks(features):
            columns = member[other : other + len(y)]
            k = kernel(x, y)
            if other == start:
                np.fill_diagonal(k, 0)
            within += np.bincount(rows, k.sum(1), len(place))
            same = (k * (rows[:, None] == columns[None])).sum(1)
            diagonal += np.bincount(rows, same, len(place))
            other += len(y)
        start += len(x)
    m, n = len(member) - counts, count(reference)
    kept = within.sum() - 2 * within + diagonal
    own = sum(_own(reference, kernel)) / (n * (n - 1))
    return kept / (m * (m - 1)) + own - 2 * (across.sum() - across) / (m * n)
