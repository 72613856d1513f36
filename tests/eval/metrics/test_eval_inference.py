"""Tests of differences against scipy, Holm's correction by hand and by simulation, and the pairs that a test needs."""

import math

import numpy as np
import pytest
from scipy import stats

from eval.metrics.inference import difference_seen, holm, least_pairs, pairs_needed, sign_flip


@pytest.mark.parametrize("n", [2, 5, 9, 12])
def test_sign_flip_is_scipys_permutation_test(n):
    values = np.random.default_rng(n).normal(0.6, 1, n)
    oracle = stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(values, list(range(n))) == pytest.approx(oracle.pvalue, rel=1e-12)


def test_sign_flip_where_all_agree_is_that_of_a_sign_test():
    assert sign_flip([1.0, 2.0, 3.0, 4.0, 0.5, 0.1], list("abcdef")) == 2 / 64
    assert sign_flip([0.0, 0.0, 0.0], list("abc")) == 1
    assert sign_flip([1.0, -1.0], list("ab")) == 1


def test_seeds_of_one_prompt_flip_together():
    values = [1.0, 2.0, -0.5, 3.0]
    assert sign_flip(np.repeat(values, 3), list("aaabbbcccddd")) == sign_flip(values, list("abcd"))


@pytest.mark.parametrize("n", [40, 499, 500, 800])
def test_sign_flip_of_many_prompts_is_near_the_t_test(n):
    values = np.random.default_rng(n).normal(0.1, 1, n)
    assert sign_flip(values, list(range(n))) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.012)


def test_sign_flip_keeps_its_level_where_a_t_test_may_not():
    """Six pairs without a difference, of one far-tailed kind: 5 % of them are called different, and no more."""
    rng = np.random.default_rng(4)
    wrong = np.mean([sign_flip(rng.standard_t(1, 8), list(range(8))) <= 0.05 for _ in range(600)])
    assert 0.02 <= wrong <= 0.07


def test_holm_by_hand():
    """The smallest is taken 4 times, the next 3 times, then 2 times, and none becomes less than one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == [] and holm([0.2]) == [0.2]


def test_holm_is_above_every_p_and_below_bonferroni_in_the_same_order():
    values = np.random.default_rng(2).uniform(0, 0.2, 40)
    found = np.array(holm(list(values)))
    assert (found >= values).all() and (found <= np.minimum(values * 40, 1) + 1e-12).all()
    assert (np.diff(found[np.argsort(values)]) >= 0).all()


def test_a_family_without_differences_has_a_verdict_in_one_of_twenty():
    """Ten methods that are compared with one base and equal it: their differences depend on each other."""
    rng = np.random.default_rng(3)
    families = 0
    for _ in range(300):
        base = rng.normal(size=12)
        differences = rng.normal(size=(10, 12)) - base
        families += min(holm([sign_flip(row, list(range(12))) for row in differences])) <= 0.05
    assert families / 300 <= 0.08


@pytest.mark.parametrize("comparisons, least", [(1, 6), (2, 7), (21, 10), (22, 10), (200, 13)])
def test_least_pairs(comparisons, least):
    assert least_pairs(comparisons) == least
    assert 2 / 2**least <= 0.05 / comparisons < 2 / 2 ** (least - 1)


def test_pairs_needed_have_the_power_that_is_said():
    n = pairs_needed(0.5, 1.0)
    freedom, shift = n - 1, 0.5 * math.sqrt(n)
    edge = stats.t.ppf(0.975, freedom)
    power = stats.nct.sf(edge, freedom, shift) + stats.nct.cdf(-edge, freedom, shift)
    assert n == 34 and 0.8 <= power < 0.82  # 34 is in every table of the paired t-test
    assert pairs_needed(0.5, 1.0, 0.05 / 21) > n and pairs_needed(100.0, 1.0) == 6


def test_difference_seen_is_the_inverse():
    for n in (8, 34, 128):
        seen = difference_seen(n, 2.0)
        assert pairs_needed(seen * 1.0001, 2.0) == n
    assert difference_seen(5, 1.0) is None and difference_seen(9, 1.0, 0.05 / 21) is None
