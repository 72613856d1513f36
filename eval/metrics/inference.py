"""Compute p-values of paired differences, their correction, the pairs that a test needs, and parts of variance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np

EXACT = 14
"""Prompts up to which every choice of signs is counted: 2^14 are no more than the draws for more prompts."""
FLIPS = 20_000
"""Draws of signs for more prompts. The smallest p is 1 / (FLIPS + 1), below 5 % over 1000 comparisons."""
NORMAL = 500
"""Prompts from which the sum of differences with random signs is taken as normal."""


def sign_flip(differences: Sequence[float], groups: Sequence[Hashable], seed: int = 0) -> float:
    """Return the two-sided p of the hypothesis that two methods may be exchanged on each prompt.

    If they may, the sum of differences of each prompt has either sign with equal probability. So p is the share of
    choices of signs whose total is as far from 0 as the one found (Fisher's randomisation test). It is exact at any N,
    unlike an interval of a bootstrap, and needs no distribution. For harmonic means, pass differences of inverses.
    """
    names = {name: k for k, name in enumerate(sorted(set(groups), key=str))}
    sums = np.bincount([names[group] for group in groups], np.asarray(differences, np.float64), len(names))
    total = abs(sums.sum())
    if not sums.any():
        return 1.0
    if len(sums) >= NORMAL:
        return 2 * NormalDist().cdf(-total / math.sqrt(float((sums**2).sum())))
    flips = signs(len(sums), seed)
    hits = int((np.abs(flips @ sums) >= total * (1 - 1e-9)).sum())
    return hits / len(flips) if len(sums) <= EXACT else (hits + 1) / (len(flips) + 1)


@lru_cache(maxsize=2)
def signs(n: int, seed: int) -> np.ndarray:
    """Return choices of n signs, float64 [choices, n]: all of them, or FLIPS random ones if there are too many."""
    if n <= EXACT:
        return 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    return np.random.default_rng([seed, n]).choice([-1.0, 1.0], (FLIPS, n))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979): no more than a share of `level` of all families has any
    wrong verdict at p <= `level`, whatever depends on what."""
    found = [0.0] * len(values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda k: values[k])):
        largest = max(largest, min((len(values) - rank) * values[place], 1.0))
        found[place] = largest
    return found


def least_pairs(comparisons: int, level: float = 0.05) -> int:
    """Return the pairs below which none of so many comparisons can have a verdict, even if all pairs agree.

    If all n agree, two choices of signs of 2^n are as extreme, and the smallest p is compared with level / comparisons.
    """
    return math.ceil(1 + math.log2(comparisons / level) - 1e-9)


def pairs_needed(difference: float, deviation: float, level: float = 0.05, power: float = 0.8) -> int:
    """Return the prompts that show a difference of this size with the given power in a two-sided test at `level`.

    `deviation` is the standard deviation of paired differences between prompts. Normal approximation with the addition
    of Guenther (1981) for the t-test, and never less than `least_pairs`.
    """
    normal = NormalDist()
    z = normal.inv_cdf(1 - level / 2)
    n = ((z + normal.inv_cdf(power)) * deviation / difference) ** 2 + z**2 / 2
    return max(math.ceil(n), least_pairs(1, level))


def difference_seen(pairs: int, deviation: float, level: float = 0.05, power: float = 0.8) -> float | None:
    """Return the smallest difference that so many prompts show: the inverse of `pairs_needed`. None for too few."""
    normal = NormalDist()
    z = normal.inv_cdf(1 - level / 2)
    if pairs < least_pairs(1, level) or pairs <= z**2 / 2:
        return None
    return (z + normal.inv_cdf(power)) * deviation / math.sqrt(pairs - z**2 / 2)


def variance_parts(values: Sequence[float], groups: Sequence[Hashable]) -> tuple[float, float] | None:
    """Return the variance between groups (prompts) and within them (seeds), of a random-effects analysis of variance.

    Both are unbiased for any number of values in a group (Searle 1971), but the first is cut at 0. None if no group
    has two values or there is one group only.
    """
    names = {name: k for k, name in enumerate(sorted(set(groups), key=str))}
    if len(names) < 2 or len(names) == len(groups):
        return None
    place, x = np.array([names[group] for group in groups]), np.asarray(values, np.float64)
    counts = np.bincount(place)
    total, k = len(x), len(counts)
    means = np.bincount(place, x) / counts
    within = float(((x - means[place]) ** 2).sum() / (total - k))
    between = float((counts * (means - x.mean()) ** 2).sum() / (k - 1))
    each = (total - (counts**2).sum() / total) / (k - 1)
    return max((between - within) / float(each), 0.0), within
