"""Distances between sets of features: FID and KID by torchmetrics, and their intervals.

Everything runs in float64 on features [N, D] that are already computed; a picture with several crops has [N, C, D].
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from statistics import NormalDist

import numpy as np

from eval.statistics import Estimate, quantiles, resampled_rows


def fid(features: np.ndarray, reference: np.ndarray) -> float:
    """Frechet distance of two sets of features [N, D], by torchmetrics in float64."""
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_identity(features.shape[-1]))
    metric.update(torch.from_numpy(flat(reference)), real=True)
    metric.update(torch.from_numpy(flat(features)), real=False)
    return float(metric.compute())


def kid(features: np.ndarray, reference: np.ndarray, subsets: int, size: int, seed: int) -> tuple[float, float]:
    """KID by torchmetrics: mean and standard deviation over seeded subsets of `size` rows of each set."""
    import torch
    from torchmetrics.image.kid import KernelInceptionDistance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "will save all extracted features in buffer"
        metric = KernelInceptionDistance(feature=_identity(features.shape[-1]), subsets=subsets, subset_size=size)
    metric.update(torch.from_numpy(flat(reference)), real=True)
    metric.update(torch.from_numpy(flat(features)), real=False)
    with torch.random.fork_rng(devices=[]):  # torchmetrics draws from the global state
        torch.manual_seed(seed)
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


def subset_size(setting: int | str, *counts: int) -> int:
    """Rows of a KID subset. `auto`: half of the smallest set, at most 1000; whole sets would all be the same one."""
    if setting == "auto":
        return max(2, min(1000, min(counts) // 2))
    return min(int(setting), *counts)


def flat(features: np.ndarray) -> np.ndarray:
    """float64 [rows, D] of features with or without a crop dimension."""
    return np.ascontiguousarray(features.reshape(-1, features.shape[-1]), np.float64)


def _identity(dimension: int):
    import torch

    module = torch.nn.Identity()
    module.num_features = dimension
    return module


class Frechet:
    """Frechet distance to a fixed reference [R, D], quick to evaluate on many resamples.

    The trace of (S R)^(1/2) is the sum of singular values of Xc R^(1/2) / sqrt(n-1), with Xc the centred features,
    taken from the Gram matrix of the shorter side. numpy's eigenvalues, independent of torchmetrics.
    """

    def __init__(self, reference: np.ndarray):
        reference = flat(reference)
        self.mean = reference.mean(0)
        covariance = np.cov(reference, rowvar=False).reshape(len(self.mean), -1)
        values, vectors = np.linalg.eigh(covariance)
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
        """Distances [samples] of bootstrap resamples over groups."""
        projected = features @ self.root
        return np.array(
            [self(flat(features[rows]), flat(projected[rows])) for rows in resampled_rows(groups, samples, seed)]
        )


def fid_interval(
    value: float, features: np.ndarray, groups: Sequence[Hashable], reference: np.ndarray,
    samples: int = 200, level: float = 0.95, seed: int = 0,
) -> Estimate:  # fmt: skip
    """Bootstrap interval of an FID over prompts, references held fixed.

    A resample repeats pictures, which raises FID by itself; so the quantiles are those of the deviations from the
    mean of the resamples, put around the value.
    """
    if len(set(groups)) < 3:
        return Estimate(value, None, None, len(features))
    sampled = Frechet(reference).resamples(np.asarray(features, np.float64), groups, samples, seed)
    low, high = quantiles(sampled - sampled.mean(), level)
    return Estimate(value, value + low, value + high, len(features))


def kid_interval(
    value: float, features: np.ndarray, groups: Sequence[Hashable], reference: np.ndarray, level: float = 0.95
) -> Estimate:
    """Jackknife interval of a KID, leaving out one prompt at a time; references held fixed."""
    names = sorted(set(groups), key=str)
    if len(names) < 3:
        return Estimate(value, None, None, len(features))
    left_out = kid_jackknife(features, groups, reference)
    error = float(np.sqrt((len(names) - 1) / len(names) * ((left_out - left_out.mean()) ** 2).sum()))
    z = NormalDist().inv_cdf((1 + level) / 2)
    return Estimate(value, value - z * error, value + z * error, len(features))


def mmd(features: np.ndarray, reference: np.ndarray) -> float:
    """Unbiased squared MMD of the full sets, the mean that KID estimates from subsets."""
    x, y = flat(features), flat(reference)
    own, other = polynomial(x, x), polynomial(y, y)
    within = (own.sum() - np.trace(own)) / (len(x) * (len(x) - 1))
    return float(within + (other.sum() - np.trace(other)) / (len(y) * (len(y) - 1)) - 2 * polynomial(x, y).mean())


def kid_jackknife(features: np.ndarray, groups: Sequence[Hashable], reference: np.ndarray) -> np.ndarray:
    """Unbiased squared MMD of the full sets with each group left out in turn: [groups]."""
    names = sorted(set(groups), key=str)
    crops = features[0].size // features.shape[-1]
    x, y = flat(features), flat(reference)
    member = np.repeat([names.index(group) for group in groups], crops)
    one_hot = np.eye(len(names))[member]
    kernel = polynomial(x, x)
    np.fill_diagonal(kernel, 0)
    within = one_hot.T @ kernel @ one_hot
    across = one_hot.T @ polynomial(x, y).sum(1)
    counts = one_hot.sum(0)
    m, n = len(x) - counts, len(y)
    own = polynomial(y, y)
    np.fill_diagonal(own, 0)
    same = within.sum() - 2 * within.sum(1) + np.diag(within)
    return same / (m * (m - 1)) + own.sum() / (n * (n - 1)) - 2 * (across.sum() - across) / (m * n)


def polynomial(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kernel of KID: (x.y / D + 1)^3."""
    return (x @ y.T / x.shape[1] + 1) ** 3
