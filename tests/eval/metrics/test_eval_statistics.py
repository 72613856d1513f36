import numpy as np
import pytest
from scipy import stats

from eval.metrics.statistics import (
    draws,
    folds,
    jackknife_error,
    jackknife_interval,
    mean_interval,
    paired_difference,
    student_quantile,
    student_tail,
    win_rate,
)


def test_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(100):
        values = rng.exponential(2.0, 60)
        found = mean_interval(values, list(range(60)), samples=300, level=0.9, seed=trial)
        hits += found.low <= 2.0 <= found.high
    assert 0.82 <= hits / 100 <= 0.96


def test_seeds_of_one_prompt_do_not_pose_as_independent():
    rng = np.random.default_rng(2)
    prompt = rng.normal(size=30)
    one = mean_interval(prompt, list(range(30)), seed=0)
    four = mean_interval(np.repeat(prompt, 4), list(np.repeat(np.arange(30), 4)), seed=0)
    assert four.n == 120 and four.value == pytest.approx(one.value)
    assert (four.low, four.high) == pytest.approx((one.low, one.high))


def test_order_of_images_changes_nothing():
    rng = np.random.default_rng(3)
    values, groups = rng.normal(size=50), [f"p{k // 2}" for k in range(50)]
    order = rng.permutation(50)
    assert mean_interval(values, groups) == mean_interval(values[order], [groups[k] for k in order])


def test_one_prompt_has_no_interval():
    found = mean_interval([1.0, 3.0], ["a", "a"])
    assert found.value == 2 and found.low is None and found.high is None


def test_paired_difference_uses_common_images_only():
    a = {("p", 0): 3.0, ("q", 0): 5.0, ("r", 0): 9.0}
    b = {("p", 0): 1.0, ("q", 0): 4.0, ("s", 0): 0.0}
    found = paired_difference(a, b)
    assert found.value == 1.5 and found.n == 2
    assert paired_difference(a, {("x", 0): 1.0}) is None


def test_paired_interval_is_narrow_where_methods_move_together():
    rng = np.random.default_rng(4)
    base = {(f"p{k}", 0): float(v) for k, v in enumerate(rng.normal(0, 10, 80))}
    better = {key: value + 1 + float(rng.normal(0, 0.1)) for key, value in base.items()}
    found = paired_difference(better, base)
    assert 0.9 < found.low < found.high < 1.1


def test_win_rate_respects_direction_and_ties():
    a = {("p", 0): 1.0, ("q", 0): 2.0, ("r", 0): 2.0, ("s", 0): 5.0}
    b = {("p", 0): 2.0, ("q", 0): 1.0, ("r", 0): 2.0, ("s", 0): 1.0}
    assert win_rate(a, b, True).value == 0.625
    assert win_rate(a, b, False).value == 0.375


def test_resamples_have_the_size_of_the_set():
    assert (draws(5, 9, 0).sum(1) == 5).all()


def test_folds_keep_groups_whole_are_seeded_and_do_not_depend_on_order():
    assert folds(["b", "a", "b", "c"], 3).tolist() == [1, 0, 1, 2]
    groups = [f"p{k // 2}" for k in range(40)]
    found = folds(groups, 6, seed=1)
    assert set(found) == set(range(6)) and max(np.bincount(found)) - min(np.bincount(found)) <= 2
    assert (found[::2] == found[1::2]).all() and (folds(groups[::-1], 6, seed=1) == found[::-1]).all()
    assert (folds(groups, 6, seed=2) != found).any()


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 15, 16, 31, 200, 4999])
def test_student_equals_scipy(freedom):
    for t in (0.0, 0.3, -1.7, 2.5, 9.0):
        assert student_tail(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), abs=1e-12)
    for level in (0.5, 0.9, 0.95, 0.999):
        assert student_quantile(level, freedom) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-8)


def test_the_jackknife_of_a_mean_is_its_t_interval():
    values = np.random.default_rng(5).normal(3, 1, 12)
    left_out = (values.sum() - values) / 11
    assert jackknife_error(left_out) == pytest.approx(stats.sem(values), rel=1e-12)
    found = jackknife_interval(values.mean(), left_out, 0.95, 12)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 11, values.mean(), stats.sem(values)))


@pytest.mark.parametrize("spread", [0.1, 1.0, 50.0])
def test_the_interval_of_what_can_not_be_negative_stays_above_zero(spread):
    left_out = np.abs(np.random.default_rng(6).normal(2, spread, 10))
    found = jackknife_interval(2.0, left_out, 0.95, 10, positive=True)
    assert 0 < found.low < 2 < found.high
    assert jackknife_interval(0.0, left_out, 0.95, 10, positive=True).low == 0
    assert jackknife_interval(2.0, np.append(left_out, 0), 0.95, 11, positive=True).low >= 0
