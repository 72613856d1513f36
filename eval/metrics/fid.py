"""Compute FID with torchmetrics, a fast Frechet distance for resamples, and the interval of an FID."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence

import numpy as np

from .moments import Moments, blocks, count, flat, moments
from .statistics import Estimate, quantiles, resampled_rows


def fid(features: np.ndarray | Moments, reference: np.ndarray | Moments) -> float:
    """Return the Frechet distance of two sets of features [N, D] or of their moments, by torchmetrics in float64."""
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


class Frechet:
    """Frechet distance to a fixed reference [R, D] or its moments, fast for many resamples.

    The trace of (S R)^(1/2) is the sum of singular values of Xc R^(1/2) / sqrt(n-1), with Xc the centred features,
    taken from the Gram matrix of the shorter side. numpy's eigenvalues, independent of torchmetrics. R^(1/2) may be any
    matrix with R = A A': references no more than their dimensions are themselves one, which costs no eigenvalues.
    """

    def __init__(self, reference: np.ndarray | Moments):
        if isinstance(reference, np.ndarray) and count(reference) <= reference.shape[-1]:
            rows = flat(reference)
            self.mean = rows.mean(0)
            self.root = (rows - self.mean).T / np.sqrt(len(rows) - 1)
            self.trace = float((self.root**2).sum())
            return
        reference = moments(reference)
        self.mean = reference.mean
        values, vectors = np.linalg.eigh(reference.covariance)
        self.trace = float(values.sum())
        self.root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T

    def __call__(self, x: np.ndarray, projected: np.ndarray | None = None) -> float:
        """Return the distance of features [n, D]. `projected` is x @ root, if it is known."""
        y = x @ self.root if projected is None else projected
        y = y - y.mean(0)
        gram = (y @ y.T if len(y) < y.shape[1] else y.T @ y) / (len(x) - 1)
        nuclear = float(np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None)).sum())
        spread = float(x.var(0, ddof=1).sum())
        return float(((x.mean(0) - self.mean) ** 2).sum()) + spread + self.trace - 2 * nuclear

    def resamples(self, features: np.ndarray, groups: Sequence[Hashable], samples: int, seed: int) -> np.ndarray:
        """Return the distances [samples] of bootstrap resamples over groups.

        With more rows than dimensions, features are read in blocks, and only [D, D] is in memory.
        """
        drawn = resampled_rows(groups, samples, seed)
        if count(features) > features.shape[-1]:
            return np.array([self.weighted(features, np.bincount(rows, minlength=len(features))) for rows in drawn])
        features = np.asarray(features, np.float64)
        projected = features @ self.root
        return np.array([self(flat(features[rows]), flat(projected[rows])) for rows in drawn])

    def weighted(self, features: np.ndarray, weights: np.ndarray) -> float:
        """Return the distance of features [N, D] or [N, C, D] if image i is used weights[i] times."""
        weights = np.repeat(weights, count(features) // len(features)).astype(float)
        total, outer, start = np.zeros(len(self.mean)), np.zeros((len(self.mean),) * 2), 0
        for block in blocks(features):
            heavy = block * weights[start : start + len(block), None]
            total += heavy.sum(0)
            outer += heavy.T @ block
            start += len(block)
        n = weights.sum()
        mean = total / n
        covariance = (outer - np.outer(total, mean)) / (n - 1)
        nuclear = float(np.sqrt(np.clip(np.linalg.eigvalsh(self.root.T @ covariance @ self.root), 0, None)).sum())
        return float(((mean - self.mean) ** 2).sum()) + float(np.trace(covariance)) + self.trace - 2 * nuclear


def interval(
    value: float,
    features: np.ndarray,
    groups: Sequence[Hashable],
    reference: np.ndarray | Moments,
    samples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return the bootstrap interval of an FID over prompts, with fixed references.

    A resample repeats images, which alone raises FID. So the interval has the quantiles of the deviations from the
    mean of the resamples, around the value.
    """
    if len(set(groups)) < 3:
        return Estimate(value, None, None, len(features))
    sampled = Frechet(reference).resamples(features, groups, samples, seed)
    low, high = quantiles(sampled - sampled.mean(), level)
    return Estimate(value, value + low, value + high, len(features))
