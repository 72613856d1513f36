"""Numbers from votes: Bradley-Terry scores, win rates and the agreement of raters. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ..metrics.statistics import draws, quantiles

PRIOR = 0.5
"""Wins and losses of each method against an average one that are added: one equal vote. Without it a method that never
lost would be infinitely good, and methods without a chain of votes between them could not be compared."""


@dataclass(frozen=True)
class Scale:
    """Bradley-Terry scores of m methods with their intervals; None with fewer than two prompts."""

    value: np.ndarray  # [m], in natural log odds, mean 0
    low: np.ndarray | None
    high: np.ndarray | None


def bradley_terry(wins: np.ndarray, prior: float = PRIOR) -> np.ndarray:
    """Return the log strengths [..., m], mean 0, that make `wins` [..., m, m] most likely.

    `wins[i, j]` counts how often i beat j; an equal vote is half a win of each. By the MM algorithm (Hunter 2004,
    "MM algorithms for generalized Bradley-Terry models", eq. 3), with `prior` wins and losses against a method of
    strength 1. With prior=0 each method must have won and lost along chains to each other one.
    """
    total = wins + np.swapaxes(wins, -1, -2)
    won = wins.sum(-1) + prior
    strength = np.ones(won.shape)
    for _ in range(10_000):
        pairs = total / (strength[..., :, None] + strength[..., None, :])
        fresh = won / (pairs.sum(-1) + 2 * prior / (strength + 1))
        if not prior:
            fresh /= np.exp(np.log(fresh).mean(-1, keepdims=True))  # only ratios count
        change, strength = np.abs(fresh / strength - 1).max(), fresh
        if change < 1e-10:
            break
    score = np.log(strength)
    return score - score.mean(-1, keepdims=True)


def errors(wins: np.ndarray, score: np.ndarray, prior: float = PRIOR) -> np.ndarray:
    """Return the standard errors [m] of scores, from the information of the votes as if all were independent."""
    odds = 1 / (1 + np.exp(score[None, :] - score[:, None]))
    weight = (wins + wins.T) * odds * (1 - odds)
    alone = 1 / (1 + np.exp(-score))
    information = np.diag(weight.sum(1) + 2 * prior * alone * (1 - alone)) - weight
    centre = np.eye(len(score)) - 1 / len(score)
    return np.sqrt(np.diag(centre @ np.linalg.inv(information) @ centre.T))


def scale(by_prompt: np.ndarray, samples: int = 1000, level: float = 0.95, seed: int = 0) -> Scale:
    """Return the scores of `by_prompt` [prompts, m, m], the wins on the images of each prompt.

    Intervals are bootstrap over prompts, and at least as wide as the normal approximation: resamples of votes that all
    agree do not vary.
    """
    wins = by_prompt.sum(0)
    value = bradley_terry(wins)
    if len(by_prompt) < 2:
        return Scale(value, None, None)
    taken = draws(len(by_prompt), samples, seed)
    resampled = bradley_terry(np.tensordot(taken, by_prompt, 1))
    ends = np.array([quantiles(column, level) for column in resampled.T])
    half = NormalDist().inv_cdf((1 + level) / 2) * errors(wins, value)
    return Scale(value, np.minimum(ends[:, 0], value - half), np.maximum(ends[:, 1], value + half))


def win_rate(by_prompt: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of the share of each prompt with its interval (Wilson 1927, a prompt as one trial).

    It never leaves 0 to 1 and never has width 0. For shares between 0 and 1 it is wider than needed.
    """
    n, mean, z = len(by_prompt), float(np.mean(by_prompt)), NormalDist().inv_cdf((1 + level) / 2)
    centre = (mean + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(mean * (1 - mean) / n + z**2 / (4 * n**2)))
    return mean, max(0.0, centre - half), min(1.0, centre + half)


def krippendorff(units: Sequence[Sequence[float]]) -> float | None:
    """Return Krippendorff's alpha of values on an interval scale. `units` are the values of all raters of each item.

    Items with one value do not count. None if no item has two, or if all values are equal (Krippendorff 2011,
    "Computing Krippendorff's alpha-reliability").
    """
    kept = [np.asarray(unit, np.float64) for unit in units if len(unit) > 1]
    if not kept:
        return None
    every = np.concatenate(kept)
    within = sum(_spread(unit) / (len(unit) - 1) for unit in kept) / len(every)
    between = _spread(every) / (len(every) * (len(every) - 1))
    return float(1 - within / between) if between else None


def _spread(values: np.ndarray) -> float:
    """The sum of squared differences over all ordered pairs of values."""
    return float(2 * len(values) * ((values - values.mean()) ** 2).sum())
