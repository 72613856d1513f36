"""Compute the Inception Score (arXiv 1606.03498) from stored logits: exp of the mean KL divergence from their marginal.

The two public libraries differ, and both are here. `torch_fidelity` 0.4.0: float64, numpy's permutation of the seed,
splits that end at i N // splits, the biased standard deviation. `torchmetrics` 1.9.0: float32, torch's permutation
(there of the global generator, here of the seed), equal splits rounded up, of which there may be fewer than asked, the
unbiased deviation, which one split has not.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from ..statistics import draws
from .moments import flat

VARIANTS = ("torch_fidelity", "torchmetrics")
LEAST = 5000
"""Images below which a warning stands beside the score: with few of them it is biased downwards."""


def inception_score(
    logits: np.ndarray, splits: int, variant: str = "torch_fidelity", seed: int = 2020, order: np.ndarray | None = None
) -> tuple[float, float]:
    """Return mean and standard deviation over splits, from logits [N, K], or [N, C, K] with C crops an image.

    The rows are taken in `order`, by default the permutation of the seed. There must be as many rows as splits.
    """
    rows = flat(logits)
    parts = split(len(rows), splits, variant, seed, order)
    if variant == "torchmetrics":
        return _torchmetrics(rows, parts)
    found = []
    for part in parts:
        logs = _log_softmax(rows[part])
        p = np.exp(logs)
        found.append(np.exp((p * (logs - np.log(p.mean(0)))).sum(1).mean()))
    return float(np.mean(found)), float(np.std(found))


def split(n: int, splits: int, variant: str, seed: int, order: np.ndarray | None = None) -> list[np.ndarray]:
    """Return the row numbers of each split of n rows."""
    if variant == "torchmetrics":
        import torch

        if order is None:
            order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
        return [part.numpy() for part in torch.from_numpy(np.asarray(order)).chunk(splits)]
    if order is None:
        order = np.random.RandomState(seed).permutation(n)
    return [order[i * n // splits : (i + 1) * n // splits] for i in range(splits)]


def _log_softmax(rows: np.ndarray) -> np.ndarray:
    rows = rows - rows.max(1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(1, keepdims=True))


def _torchmetrics(rows: np.ndarray, parts: list[np.ndarray]) -> tuple[float, float]:
    import torch

    found = []
    for part in parts:
        logs = torch.from_numpy(rows[part].astype(np.float32)).log_softmax(1)
        p = logs.exp()
        found.append((p * (logs - p.mean(0, keepdim=True).log())).sum(1).mean().exp())
    values = torch.stack(found)
    return float(values.mean()), float(values.std()) if len(values) > 1 else float("nan")


def resamples(
    logits: np.ndarray, groups: Sequence[Hashable], parts: list[np.ndarray], samples: int, seed: int
) -> np.ndarray:
    """Return the mean scores [samples] of bootstrap resamples over groups (prompts), whose rows stay in their split."""
    rows = flat(logits)
    place = {name: k for k, name in enumerate(sorted(set(groups), key=str))}
    member = np.repeat([place[group] for group in groups], len(rows) // len(logits))
    taken, found = draws(len(place), samples, seed), []
    for part in parts:
        logs = _log_softmax(rows[part])
        p, weights = np.exp(logs), taken[:, member[part]].astype(np.float64)
        weights /= np.maximum(weights.sum(1, keepdims=True), 1)
        mean = np.maximum(weights @ p, 1e-300)
        scores = np.exp(weights @ (p * logs).sum(1) - (mean * np.log(mean)).sum(1))
        found.append(np.where(weights.any(1), scores, np.nan))  # a split may lose all its rows
    return np.nanmean(found, axis=0)
