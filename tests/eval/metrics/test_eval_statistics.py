import numpy as np
import pytest

from eval.metrics.statistics import draws, mean_interval, paired_difference, resampled_rows, win_rate


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


def test_resamples_keep_groups_whole_and_are_seeded():
    groups = ["a", "b", "a", "c"]
    rows = list(resampled_rows(groups, 20, seed=7))
    assert all((np.sum(r == 0) == np.sum(r == 2)) for r in rows)
    assert all(np.array_equal(x, y) for x, y in zip(rows, resampled_rows(groups, 20, seed=7), strict=True))
    assert any(not np.array_equal(x, y) for x, y in zip(rows, resampled_rows(groups, 20, seed=8), strict=True))
    assert (draws(5, 9, 0).sum(1) == 5).all()
