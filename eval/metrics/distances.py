"""Distances between sets of features: FID and KID by torchmetrics, CMMD, and their intervals.

Everything runs in float64 on features [N, D] that are already computed; a picture with several crops has [N, C, D].
Sums go over blocks of rows in the order given, so memory does not grow with the number of pictures beyond the features
themselves, which may lie on disk (`numpy.memmap`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from .statistics import Estimate, quantiles, resampled_rows

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


def blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    """Float64 blocks [at most ROWS, D] of features [N, D] or [N, C, D], which may be of any type or on disk."""
    step = max(1, ROWS // int(np.prod(features.shape[1:-1])))
    for start in range(0, len(features), step):
        yield flat(features[start : start + step])


def flat(features: np.ndarray) -> np.ndarray:
    """float64 [rows, D] of features with or without a crop dimension."""
    return np.ascontiguousarray(features.reshape(-1, features.shape[-1]), np.float64)


def moments(features: np.ndarray | Moments) -> Moments:
    """Moments of features, or the moments given."""
    return features if isinstance(features, Moments) else Moments.of(features)


def fid(features: np.ndarray | Moments, reference: np.ndarray | Moments) -> float:
    """Frechet distance of two sets of features [N, D], or of their moments, by torchmetrics in float64."""
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    x, y = moments(features), moments(reference)
    module = torch.nn.Identity()
    module.num_features = len(x.sum)
    metric = FrechetInceptionDistance(feature=module).set_dtype(torch.float64)
    for name, part in (("fake", x), ("real", y)):  # its running sums, as its update() makes them
        setattr(metric, f"{name}_features_sum", torch.from_numpy(part.sum))
        setattr(metric, f"{name}_features_cov_sum", torch.from_numpy(part.outer))
        setattr(metric, f"{name}_features_num_samples", torch.tensor(part.count))
    metric.orig_dtype = torch.float64
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that update() was not called
        return float(metric.compute())


def kid(features: np.ndarray, reference: np.ndarray, subsets: int, size: int, seed: int) -> tuple[float, float]:
    """KID by torchmetrics' MMD: mean and standard deviation over seeded subsets of `size` rows of each set.

    Subsets are drawn as torchmetrics' KernelInceptionDistance draws them (a permutation of the references, then one of
    the pictures), but from a seed of their own; only their rows are read.
    """
    import torch
    from torchmetrics.image.kid import poly_mmd

    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(subsets):
        y, x = (
            torch.from_numpy(_rows(set_, torch.randperm(_count(set_), generator=generator)[:size].numpy()))
            for set_ in (reference, features)
        )
        found.append(poly_mmd(y, x, degree=3, gamma=None, coef=1.0))
    values = torch.stack(found)
    return float(values.mean()), float(values.std(unbiased=False))


def _count(features: np.ndarray) -> int:
    return int(np.prod(features.shape[:-1]))


def _rows(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of flattened features, float64 [len(rows), D], without reading the others."""
    if features.ndim == 2:
        return np.asarray(features[rows], np.float64)
    return np.asarray(features[rows // features.shape[1], rows % features.shape[1]], np.float64)


def subset_size(setting: int | str, *counts: int) -> int:
    """Rows of a KID subset. `auto`: half of the smallest set, at most 1000; whole sets would all be the same one."""
    if setting == "auto":
        return max(2, min(1000, min(counts) // 2))
    return min(int(setting), *counts)


class Frechet:
    """Frechet distance to a fixed reference [R, D] or its moments, quick to evaluate on many resamples.

    The trace of (S R)^(1/2) is the sum of singular values of Xc R^(1/2) / sqrt(n-1), with Xc the centred features,
    taken from the Gram matrix of the shorter side. numpy's eigenvalues, independent of torchmetrics.
    """

    def __init__(self, reference: np.ndarray | Moments):
        reference = moments(reference)
        self.mean = reference.mean
        values, vectors = np.linalg.eigh(reference.covariance)
        self.trace = float(values.sum())
        self.root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T

    def __call__(self, x: np.ndarray, projected: np.ndarray | None = None) -> float:
        """Distance of features [n, D]; `projected` is x @ root where it is at hand."""
        y = x @ self.root if projected is None else projected
        y = y - y.mean(0)
        gram = (y @ y.T if len(y) < y.shape[1] else y.T @ y) / (len(x) - 1)
        nuclear = float(np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None)).sum())
        spread = float(x.var(0, ddof=1).sum())
        return float(((x.mean(0) - self.mean) ** 2).sum()) + spread + self.trace - 2 * nuclear

    def resamples(self, features: np.ndarray, groups: Sequence[Hashable], samples: int, seed: int) -> np.ndarray:
        """Distances [samples] of bootstrap resamples over groups.

        With more rows than dimensions, each goes over the features in blocks and holds [D, D] only.
        """
        drawn = resampled_rows(groups, samples, seed)
        if _count(features) > features.shape[-1]:
            return np.array([self.weighted(features, np.bincount(rows, minlength=len(features))) for rows in drawn])
        features = np.asarray(features, np.float64)
        projected = features @ self.root
        return np.array([self(flat(features[rows]), flat(projected[rows])) for rows in drawn])

    def weighted(self, features: np.ndarray, weights: np.ndarray) -> float:
        """Distance of features [N, D] or [N, C, D] of which picture i is taken weights[i] times."""
        weights = np.repeat(weights, _count(features) // len(features)).astype(float)
        total, outer, start = np.zeros(len(self.mean)), np.zeros((len(self.mean),) * 2), 0
        for block in blocks(features):
            heavy = block * weights[start : start + len(block), None]
            total += heavy.sum(0)
            outer += heavy.T @ block
            start += len(block)
        n = weights.sum()
        mean = total / n
        covariance = (outer - np.outer(total, mean)) / (n - 1)
        nuclear = float(np.sqrt(np.clip(np.linalg.eigvalsh(self.root @ covariance @ self.root), 0, None)).sum())
        return float(((mean - self.mean) ** 2).sum()) + float(np.trace(covariance)) + self.trace - 2 * nuclear


def fid_interval(
    value: float,
    features: np.ndarray,
    groups: Sequence[Hashable],
    reference: np.ndarray | Moments,
    samples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Bootstrap interval of an FID over prompts, references held fixed.

    A resample repeats pictures, which raises FID by itself; so the quantiles are those of the deviations from the
    mean of the resamples, put around the value.
    """
    if len(set(groups)) < 3:
        return Estimate(value, None, None, len(features))
    sampled = Frechet(reference).resamples(features, groups, samples, seed)
    low, high = quantiles(sampled - sampled.mean(), level)
    return Estimate(value, value + low, value + high, len(features))


Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def polynomial(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kernel of KID: (x.y / D + 1)^3."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kernel of CMMD (arXiv 2401.09603), 1000 exp(-|x - y|^2 / 200), for rows brought to unit length."""
    x, y = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (x, y))
    return 1000 * np.exp((x @ y.T - 1) / 100)


def mmd(features: np.ndarray, reference: np.ndarray, kernel: Kernel = polynomial) -> float:
    """Unbiased squared MMD of the full sets: the mean that KID estimates from subsets, or CMMD with `gaussian`.

    CMMD's public code keeps the diagonal of the kernel, which adds to small sets; this leaves it out.
    """
    m, n = _count(features), _count(reference)
    within = sum(_own(features, kernel)) / (m * (m - 1))
    across = sum(float(kernel(x, y).sum()) for x in blocks(features) for y in blocks(reference))
    return within + sum(_own(reference, kernel)) / (n * (n - 1)) - 2 * across / (m * n)


def _own(features: np.ndarray, kernel: Kernel) -> Iterator[float]:
    """Sums of the kernel of a set with itself, without its diagonal, block by block."""
    for i, x in enumerate(blocks(features)):
        for j, y in enumerate(blocks(features)):
            if i <= j:
                k = kernel(x, y)
                yield 2.0 * float(k.sum()) if i < j else float(k.sum() - np.trace(k))


def mmd_interval(
    value: float,
    features: np.ndarray,
    groups: Sequence[Hashable],
    reference: np.ndarray,
    level: float = 0.95,
    kernel: Kernel = polynomial,
) -> Estimate:
    """Jackknife interval of a squared MMD (KID, CMMD), leaving out one prompt at a time; references held fixed."""
    names = sorted(set(groups), key=str)
    if len(names) < 3:
        return Estimate(value, None, None, len(features))
    left_out = kid_jackknife(features, groups, reference, kernel)
    error = float(np.sqrt((len(names) - 1) / len(names) * ((left_out - left_out.mean()) ** 2).sum()))
    z = NormalDist().inv_cdf((1 + level) / 2)
    return Estimate(value, value - z * error, value + z * error, len(features))


kid_interval = mmd_interval


def kid_jackknife(
    features: np.ndarray, groups: Sequence[Hashable], reference: np.ndarray, kernel: Kernel = polynomial
) -> np.ndarray:
    """Unbiased squared MMD of the full sets with each group left out in turn: [groups]."""
    place = {name: k for k, name in enumerate(sorted(set(groups), key=str))}
    crops = _count(features) // len(features)
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
    m, n = len(member) - counts, _count(reference)
    kept = within.sum() - 2 * within + diagonal
    own = sum(_own(reference, kernel)) / (n * (n - 1))
    return kept / (m * (m - 1)) + own - 2 * (across.sum() - across) / (m * n)
