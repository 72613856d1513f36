"""Compute intervals and comparisons with numpy. Every function has its own seeded generator.

Resampling is over prompts, because images of one prompt with several seeds are not independent. No result depends on
the order of the input.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..records.runs import Key

INTERVALS = 2
"""Version of the intervals in `scores.json`. Raise it when one changes: stored measures are aggregated again."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; low and high are None if there are too few prompts."""

    value: float
    low: float | None
    high: float | None
    n: int


def draws(groups: int, samples: int, seed: int) -> np.ndarray:
    """Return how often each group is in each resample: int64 [samples, groups], every row sums to `groups`."""
    return np.random.default_rng([seed, groups]).multinomial(groups, np.full(groups, 1 / groups), size=samples)


def mean_interval(
    values: Sequence[float], groups: Sequence[Hashable], samples: int = 1000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Return the mean of values with its percentile bootstrap interval over groups (prompts)."""
    values = np.asarray(values, np.float64)
    names = sorted(set(groups), key=str)
    place = {name: k for k, name in enumerate(names)}
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    order = np.argsort(values, kind="stable")  # sums must not depend on the order of images
    for i in order:
        sums[place[groups[i]]] += values[i]
        counts[place[groups[i]]] += 1
    mean = float(sums.sum() / counts.sum())
    if len(names) < 2:
        return Estimate(mean, None, None, len(values))
    taken = draws(len(names), samples, seed)
    low, high = quantiles((taken @ sums) / (taken @ counts), level)
    return Estimate(mean, low, high, len(values))


def harmonic_interval(
    values: Sequence[float], groups: Sequence[Hashable], samples: int = 1000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Return the harmonic mean of positive values with its percentile bootstrap interval over groups (prompts)."""
    found = mean_interval(1 / np.asarray(values, np.float64), groups, samples, level, seed)
    if found.low is None or found.high is None:
        return Estimate(1 / found.value, None, None, found.n)
    return Estimate(1 / found.value, 1 / found.high, 1 / found.low, found.n)


def quantiles(values: np.ndarray, level: float) -> tuple[float, float]:
    """Return the central interval of the given level."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def jackknife_error(left_out: np.ndarray) -> float:
    """Return the standard error of a value, from values [groups] without one group each (Efron 1982)."""
    n = len(left_out)
    return float(np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()))


def jackknife_interval(value: float, left_out: np.ndarray, level: float, n: int, positive: bool = False) -> Estimate:
    """Return value +- t times its jackknife error, with Student's t for len(left_out) - 1 degrees of freedom.

    With `positive`, for a quantity that can't be negative, the interval is one of its logarithm and is above 0; where a
    value is 0, it is cut at 0. `n` is the number of images.
    """
    t = student_quantile(level, len(left_out) - 1)
    if positive and value > 0 and (left_out > 0).all():
        factor = math.exp(min(t * jackknife_error(np.log(left_out)), 700))
        return Estimate(value, value / factor, value * factor, n)
    error = t * jackknife_error(left_out)
    return Estimate(value, max(value - error, 0) if positive else value - error, value + error, n)


def student_tail(t: float, freedom: int) -> float:
    """Return the probability that |T| > |t|, for Student's t with whole degrees of freedom (Abramowitz & Stegun 26.7.3
    and 26.7.4). It is never below 1e-16, the precision of the sum."""
    angle = math.atan2(abs(t), math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = total = 0.0
    for k in range(odd, freedom - 1, 2):  # powers of the cosine: 1, 3, 5, ... or 0, 2, 4, ...
        term = (cosine if odd else 1.0) if k == odd else term * cosine**2 * (k - 1) / k
        total += term
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return max(1 - inside, 1e-16)


@cache
def student_quantile(level: float, freedom: int) -> float:
    """Return the t that |T| stays below with the given probability."""
    low, high = 0.0, 1.0
    while student_tail(high, freedom) > 1 - level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, freedom) > 1 - level else (low, middle)
    return high


def folds(groups: Sequence[Hashable], most: int, seed: int = 0) -> np.ndarray:
    """Return the fold [rows] of each row: its group, or with more than `most` groups one of `most` sets of groups.

    The sets are drawn from the seed. Equal groups give equal folds.
    """
    names = sorted(set(groups), key=str)
    order = np.arange(len(names))
    if len(names) > most:
        order = np.random.default_rng([seed, len(names)]).permutation(len(names)) % most
    place = dict(zip(names, order, strict=True))
    return np.array([place[group] for group in groups])


def paired_difference(
    a: Mapping[Key, float], b: Mapping[Key, float], samples: int = 1000, level: float = 0.95, seed: int = 0
) -> Estimate | None:
    """Return the mean of a - b over common images, resampled over prompts. None without common images."""
    common = sorted(set(a) & set(b), key=str)
    if not common:
        return None
    return mean_interval([a[key] - b[key] for key in common], [key[0] for key in common], samples, level, seed)


def harmonic_difference(
    a: Mapping[Key, float], b: Mapping[Key, float], samples: int = 1000, level: float = 0.95, seed: int = 0
) -> Estimate | None:
    """Return the difference of the harmonic means of a and b over common images, resampled over prompts together."""
    common = sorted(set(a) & set(b), key=str)
    if not common:
        return None
    names = sorted({key[0] for key in common}, key=str)
    place = {name: k for k, name in enumerate(names)}
    inverse, counts = np.zeros((2, len(names))), np.zeros(len(names))
    for key in common:
        inverse[:, place[key[0]]] += 1 / a[key], 1 / b[key]
        counts[place[key[0]]] += 1
    value = float(np.subtract(*(counts.sum() / inverse.sum(1))))
    if len(names) < 2:
        return Estimate(value, None, None, len(common))
    taken = draws(len(names), samples, seed)
    means = (taken @ counts) / (inverse @ taken.T)
    return Estimate(value, *quantiles(means[0] - means[1], level), len(common))


def win_rate(
    a: Mapping[Key, float],
    b: Mapping[Key, float],
    higher_is_better: bool,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate | None:
    """Return the share of common images on which a is better than b. A tie counts one half."""
    sign = 1 if higher_is_better else -1
    scores = {key: float(np.sign(sign * (a[key] - b[key])) + 1) / 2 for key in set(a) & set(b)}
    return paired_difference(scores, dict.fromkeys(scores, 0.0), samples, level, seed)
