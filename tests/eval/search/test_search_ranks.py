"""Ranks among starting points: equal ones share a rank, and values between and beyond them have theirs."""

import math

import pytest

from eval.search.ranks import Population, Scale, badness


def test_starting_points_have_their_ranks():
    scale = Scale.of([3.0, 1.0, 2.0, 10.0])
    assert [scale.rank(value) for value in (1.0, 2.0, 3.0, 10.0)] == [1, 2, 3, 4]


def test_equal_starting_points_share_the_mean_of_their_ranks():
    scale = Scale.of([5.0, 1.0, 1.0, 1.0, 7.0])
    assert [scale.rank(value) for value in (1.0, 5.0, 7.0)] == [2, 4, 5]


def test_between_neighbours_the_rank_is_linear():
    scale = Scale.of([0.0, 1.0, 5.0])
    assert scale.rank(0.25) == pytest.approx(1.25)
    assert scale.rank(4.0) == pytest.approx(2.75)


def test_beyond_the_ends_it_goes_on_without_an_end_and_wins_at_most_one_rank():
    scale = Scale.of([10.0, 11.0, 12.0, 13.0, 100.0])
    better, worse = [scale.rank(10.0 - step) for step in range(9)], [scale.rank(100.0 + 50 * k) for k in range(9)]
    assert better == sorted(better, reverse=True) and len(set(better)) == 9 and 0 < better[-1]
    assert worse == sorted(worse) and len(set(worse)) == 9 and worse[-1] < 6
    assert better[:4] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])  # neighbours in the better half are 1 apart


def test_an_outlier_does_not_flatten_what_is_better_than_the_best():
    with_outlier, without = Scale.of([1, 2, 3, 4, 1000]), Scale.of([1, 2, 3, 4, 5])
    assert with_outlier.rank(0.5) == without.rank(0.5)


def test_no_spread_and_no_number():
    equal = Scale.of([2.0, 2.0, 2.0])
    assert equal.rank(2.0) == 2
    assert 0 < equal.rank(1.0) < 2 < equal.rank(3.0) < 4
    assert Scale.of([0.0, 0.0]).rank(-1.0) < 1.5
    assert equal.rank(math.nan) == equal.rank(math.inf) == 4


@pytest.mark.parametrize(("direction", "good", "bad"), [("higher", 2, 1), ("lower", 1, 2), ("zero", -1, 3)])
def test_directions(direction, good, bad):
    assert badness(good, direction) < badness(bad, direction)


SCORES = {"a": {"x": 0.9, "y": 4.0}, "b": {"x": 0.8, "y": 2.0}, "c": {"x": 0.1, "y": 9.0}}


def test_the_objective_is_the_mean_over_metrics():
    population = Population(SCORES, {"x": "higher", "y": "lower"})
    assert population.ranks == {"a": 1.5, "b": 1.5, "c": 3.0}
    assert population.by_metric({"x": 0.85, "y": 3.0}) == pytest.approx({"x": 1.5, "y": 1.5})
    assert population.rank({"x": 2.0, "y": 1.0}) < 1


def test_what_beats_a_rank():
    population = Population(SCORES, {"x": "higher", "y": "lower"})
    assert population.beating(2.0) == ["a", "b"]
    assert population.beating(2.0, among=["b", "c"]) == ["b"]
    assert population.beating(1.5) == []
