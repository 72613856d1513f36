"""Values of a whole set of images that are no distances, with their bootstrap over prompts.

A resample repeats images, which moves all of these values. So an interval has the quantiles of the deviations from the
mean of the resamples, around the value, and ends where the quantity does.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from ..statistics import Estimate, quantiles
from . import inception_score, prdc
from .moments import count

ENDS = {
    "is": (1.0, np.inf),
    "precision": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "density": (0.0, np.inf),
    "coverage": (0.0, 1.0),
}
"""Smallest and largest value of each kind."""


def least(kind: str, config: dict[str, Any]) -> int:
    """Return the number of rows of each set that a kind needs."""
    return max(2, config["is"]["splits"] if kind == "is" else config["prdc"]["k"] + 1)


def compute(
    kind: str, features: np.ndarray, reference: np.ndarray | None, groups: Sequence[Hashable], config: dict[str, Any]
) -> tuple[float, np.ndarray, dict[str, Any]]:
    """Return the value of a kind on arrays [N, D] or [N, C, D], its resamples, and further numbers of the cell."""
    sampling = config["bootstrap"]["distance_samples"], config["bootstrap"]["seed"]
    if kind in prdc.KINDS:
        k = config["prdc"]["k"]
        inside = prdc.held(kind, features, reference, k)
        return float(prdc.value(kind, inside, k)[0]), prdc.resamples(kind, inside, groups, k, *sampling), {}
    choice = config["is"]["splits"], config["is"]["variant"], config["is"]["seed"]
    value, deviation = inception_score.inception_score(features, *choice)
    sampled = inception_score.resamples(features, groups, inception_score.split(count(features), *choice), *sampling)
    return value, sampled, {"std": deviation} if np.isfinite(deviation) else {}


def interval(kind: str, value: float, sampled: np.ndarray, groups: Sequence[Hashable], level: float) -> Estimate:
    """Return a value with its interval; without one for fewer than three groups."""
    if len(set(groups)) < 3:
        return Estimate(value, None, None, len(groups))
    low, high = quantiles(sampled - sampled.mean(), level)
    least, most = ENDS[kind]
    return Estimate(value, max(value + low, least), min(value + high, most), len(groups))
