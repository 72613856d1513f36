"""Compute FID with torchmetrics, a fast Frechet distance for the jackknife, and the interval of an FID."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence

import numpy as np

from ..statistics import Estimate, folds, jackknife_interval
from .moments import Moments, count, flat, moments


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
    """Frechet distance to a fixed reference [R, D] or its moments, fast for many sets.

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

    def without_each(self, features: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Return the distances [folds] without the images of one fold each. `fold` [N] has the fold of each image.

        With more rows than dimensions, the moments of the fold are taken from those of all, and only [D, D] is in
        memory.
        """
        names = np.unique(fold)
        if count(features) > features.shape[-1]:
            whole = Moments.of(features)
            return np.array([self.of_moments(whole.without(Moments.of(features[fold == k]))) for k in names])
        features = np.asarray(features, np.float64)
        projected = features @ self.root
        return np.array([self(flat(features[fold != k]), flat(projected[fold != k])) for k in names])

    def of_moments(self, moments: Moments) -> float:
        """Return the distance of a set from its moments."""
        covariance = moments.covariance
        nuclear = float(np.sqrt(np.clip(np.linalg.eigvalsh(self.root.T @ covariance @ self.root), 0, None)).sum())
        apart = float(((moments.mean - self.mean) ** 2).sum())
        return apart + float(np.trace(covariance)) + self.trace - 2 * nuclear


def interval(
    value: float,
    features: np.ndarray,
    groups: Sequence[Hashable],
    reference: np.ndarray | Moments,
    most: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return the jackknife interval of the logarithm of an FID over prompts, with fixed references; it is above 0.

    It is of the expected FID at this N, which is above that of many images. A bootstrap is not used, because a
    resample repeats images, which alone raises FID. With more than `most` prompts, sets of them are left out.
    """
    if len(set(groups)) < 3:
        return Estimate(value, None, None, len(features))
    left_out = Frechet(reference).without_each(features, folds(groups, most, seed))
    return jackknife_interval(value, left_out, level, len(features), positive=True)
