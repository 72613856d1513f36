"""Ranks, choices, fronts and sentences, from verdicts made by hand: each rule says what they support, and no more."""

import pytest
from answer_sections import method, section

from eval.answer import rules, sentences

BOTH = ("fid", "clip_score")


def better(a, *others, by=BOTH):
    return {(a, b, name) for b in others for name in by}


def test_the_rank_is_won_minus_lost_and_equal_ones_share_it():
    made = section([method("a"), method("b"), method("c")], better("a", "b", "c"))
    places = rules.places(made)
    assert [places[k].rank for k in range(3)] == [1, 2, 2]
    assert (places[0].won, places[0].lost, places[0].compared) == (4, 0, 4)


def test_first_and_a_cheaper_one_that_is_not_distinguishable():
    made = section([method("a", 20), method("b", 10), method("c", 5)], better("a", "c") | better("b", "c", by=("fid",)))
    said = sentences.of_section(made)
    assert said[0] == "a ranks first: better than another method in 2 of 4 comparisons, worse in 0 (N = 12)."
    assert said[1] == (
        "b is the cheapest method that is not worse than it in any metric: it is not distinguishable from a in FID and "
        "CLIP, and costs half as much (10 against 20 full-size calls)."
    )
    assert sentences.of_method(made, 1) == (
        "Not distinguishable from a in FID and CLIP (N = 12); costs half as much (10 against 20 full-size calls)."
    )
    assert sentences.of_method(made, 2).startswith("Worse than a in FID and CLIP (N = 12); costs 0.25 times as much")


def test_better_and_worse_are_both_said():
    made = section(
        [method("a", 20), method("b", 40), method("c")],
        better("a", "c", "b", by=("fid",)) | {("b", "a", "clip_score")} | better("a", "c"),
    )
    assert rules.best(made) == 0
    assert sentences.of_method(made, 1) == (
        "Better than a in CLIP and worse than a in FID (N = 12); costs twice as much (40 against 20 full-size calls)."
    )


def test_a_choice_is_never_worse_in_any_metric():
    made = section([method("a", 20), method("b", 10)], better("a", "b", by=("clip_score",)))
    assert rules.cheapest(made) == 0
    assert (
        sentences.of_section(made)[1]
        == "Every cheaper method that is compared with it is worse in at least one metric."
    )
    assert sentences.of_section(section([method("a", 5), method("b")], better("a", "b")))[1] == "No method is cheaper."


@pytest.mark.parametrize("n", [0, 1, 5])
def test_too_few_images_give_no_verdict_no_rank_and_no_choice(n):
    made = section([method("a", 20), method("b", 10)], better("a", "b"), n=n)
    assert rules.places(made) == {} and rules.budgets(made) == [] and sentences.of_metrics(made) == []
    text = " ".join([*sentences.of_section(made), *(sentences.of_method(made, k) for k in (0, 1))])
    assert f"N = {n} common images are too few, at least 6 are needed" in text
    assert not any(word in text for word in ("better", "worse", "distinguishable", "first", "costs"))


def test_no_method_is_distinguishable():
    made = section([method("a", 20), method("b", 10)])
    assert sentences.of_section(made) == [
        "No method is distinguishable from another (N = 12).",
        "b is the cheapest of them.",
    ]
    assert sentences.of_method(made, 0) == "Not distinguishable from any other method in any metric (N = 12)."


def test_methods_of_the_same_cost_are_not_passed_over():
    made = section([method("a", 20), method("b", 10), method("c", 10), method("d")], better("a", "d"))
    assert sentences.of_section(made)[1].endswith("(10 against 20 full-size calls) (with c at the same cost).")
    alike = section([method(name) for name in "abcd"])
    assert sentences.of_section(alike)[1] == "a is the cheapest of them (with 3 others of the same cost)."


def test_equal_methods_are_said_to_be_equal():
    made = section([method("a"), method("b"), method("c")], better("a", "c"))
    made.verdicts["0 1"]["equal"] = True
    assert sentences.of_method(made, 1) == "Equal to a in every value (N = 12)."


def test_nothing_to_compare():
    alone = section([method("a"), method("true renders", None, drawn=False)])
    assert sentences.of_section(alone) == ["Only one method was scored at this size, so there is nothing to compare."]
    assert sentences.of_section(section([])) == ["No method was scored at this size."]
    assert sentences.of_method(alone, 0) == "Not compared: no common images with scores."


def test_a_method_with_too_few_images_of_its_own_is_not_compared():
    made = section([method("a"), method("b"), method("c")], better("a", "b"))
    for key in ("0 2", "1 2"):
        made.verdicts[key] = {"n": 4, "equal": False, "by": {}}
    assert sentences.of_method(made, 2) == "Not compared: only 4 common images, at least 6 are needed."
    assert 2 not in rules.places(made) and rules.cheapest(made) == 0


def test_without_a_cost_none_is_spoken_of():
    made = section([method("a", None), method("b", None)], better("a", "b"), cost="")
    assert sentences.of_section(made)[1] == "What an image costs was not recorded."
    assert sentences.of_method(made, 1) == "Worse than a in FID and CLIP (N = 12)."
    assert sentences.of_budgets(made) == []


def test_budgets_take_the_cheapest_that_keeps_up_with_the_best_within_them():
    methods = [method("low", 5), method("mid", 10), method("twin", 12), method("high", 30)]
    made = section(
        methods, better("mid", "low") | better("twin", "low", by=("fid",)) | better("high", "low", "mid", "twin")
    )
    assert [(cost, choice, why) for cost, _, choice, why in sentences.of_budgets(made)] == [
        ("5", "low", "the best rank up to this cost"),
        ("10", "mid", "the best rank up to this cost: better than low in FID and CLIP"),
        ("30", "high", "the best rank up to this cost: better than mid in FID and CLIP"),
    ]


def test_a_choice_counts_from_its_own_cost_on_and_dearer_ones_below_it_are_left_out():
    """`odd` is the choice up to 30; `mid` is cheaper and keeps up with `high`, which `odd` does not."""
    methods = [method("low", 5), method("mid", 10), method("odd", 12), method("high", 30)]
    won = better("high", "low", "odd") | better("odd", "low") | better("odd", "mid", by=("clip_score",))
    assert [(cost, choice, why) for cost, _, choice, why in sentences.of_budgets(section(methods, won))] == [
        ("5", "low", "the best rank up to this cost"),
        ("10", "mid", "not distinguishable from high in FID and CLIP; high, at 30, has the best rank up to that cost"),
    ]


def test_a_single_metric_has_its_own_choice():
    methods = [method("a", 20, fid=1.0, clip=30.0), method("b", 10, fid=2.0, clip=20.0)]
    made = section(methods, better("a", "b", by=("clip_score",)))
    assert sentences.of_metrics(made) == [
        ("FID", "a, 1.00 ±1.00", "b", "10"),
        ("CLIP", "a, 30.00 ±1.00", "a", "20"),
    ]


def test_the_front_has_what_nothing_beats_in_cost_and_value():
    methods = [
        method("a", 5, fid=9),
        method("b", 10, fid=4),
        method("c", 10, fid=6),
        method("d", 20, fid=4),
        method("e", 30, fid=2),
    ]
    made = section(methods)
    assert rules.front(made, "fid", False) == [0, 1, 4]
    assert sentences.of_front(made, [0, 1, 4]) == "Front, from the cheapest (full-size calls): a (5), b (10), e (30)."
