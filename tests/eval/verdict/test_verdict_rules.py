"""Sentences and verdicts of the test, from facts made by hand: each says what they support, and no more."""

import pytest
from answer_sections import CLIP, FID

from eval.verdict import facts, page, plots, sentences
from eval.verdict.types import Answers, Asked, Effect, Finding, Margin, Spot


def effect(label, base, value=-1.0, half=0.5, verdict="better", metric="fid", n=64, p=0.001, equal=False):
    return Effect(label, base, metric, value, value - half, value + half, n, p, p, verdict, equal)


def spot(name="2x", model="tiny", margins=()):
    return Spot(name, model, "384x384", 2.0, 64, 0.95, (FID, CLIP), tuple(margins), None)


def answers(*findings, spots=None, paired=None, **other):
    asked = Asked("magnitude", "What does the magnitude add?", "With and without.", tuple(findings))
    about = {"captions": "64 captions", "is_embedded": True, "winners": {}, "both": ()} | other
    return Answers(spots=spots or (spot(),), questions=(asked,), paired=paired, **about)


def finding(*effects, place="2x", least=9):
    return Finding(place, least, effects)


NONE = effect("a", "b", value=0.1, verdict="", metric="clip_score", p=0.5)


def test_no_difference_is_shown_where_the_interval_contains_zero():
    said = sentences.of_finding(finding(effect("a", "b"), NONE), spot())
    assert said == ["a minus b: better in FID (-1.00 ±0.50); no difference shown in CLIP (+0.10 ±0.50) (N = 64)."]
    none = sentences.of_finding(finding(NONE, effect("c", "b", equal=True, verdict="", value=0.0, half=0.0)), spot())
    assert none == ["No difference shown in any metric (N = 64) between a and b.", "The same images: c and b."]


def test_what_rounding_leaves_of_a_difference_has_no_sign():
    left = effect("a", "b", value=7e-18, half=0.5, verdict="", p=1.0)
    assert sentences.difference(left, FID) == "0.00 ±0.50"


def test_too_few_captions_give_no_verdict():
    said = sentences.of_finding(finding(effect("a", "b", n=4, verdict="")), spot())
    assert said == ["No verdict: 4 captions are too few, at least 9 are needed."]


def test_an_interval_without_zero_and_without_a_verdict_is_told_from_others():
    lost = effect("a", "b", verdict="", p=0.2)
    assert lost.is_lost and not NONE.is_lost and not effect("a", "b").is_lost
    shown = page.html(answers(finding(lost)), [])
    assert sentences.LOST in shown and "no difference shown in FID" in shown


def test_a_difference_on_both_models_needs_the_same_verdict_on_both():
    spots = (spot(), spot("second", "tiny2"))
    good, bad = effect("a", "b"), effect("a", "b", value=1.0, verdict="worse")
    both = answers(finding(good), finding(good, place="second"), spots=spots, paired=("2x", "second"))
    assert sentences.of_both(both.questions[0], both) == [
        "a is better than b on both models in FID (-1.00 ±0.50; -1.00 ±0.50)."
    ]
    assert "at 384x384 on both models: 1 with something better" in sentences.of_question(both.questions[0], both)
    apart = answers(finding(good), finding(bad, place="second"), spots=spots, paired=("2x", "second"))
    assert sentences.of_both(apart.questions[0], apart) == ["No difference is shown on both models."]
    assert sentences.of_question(apart.questions[0], apart).endswith("on both models: 1 where neither is shown.")


def test_one_sentence_leads_a_question():
    said = sentences.of_question(answers(finding(effect("a", "b"), NONE)).questions[0], answers(finding(NONE)))
    assert said.startswith("What does the magnitude add? On tiny at 384x384, a minus b: better in FID (-1.00 ±0.50); ")
    assert said.endswith("Of 1 difference at 384x384 on tiny: 1 with something better and nothing worse.")


def test_a_winner_has_to_beat_every_method():
    ahead = [effect("w", "yarn", -1.0, p=0.001), effect("w", "dype", -0.2, p=0.01)]
    margin = facts._margin("w", "fid", ahead)
    assert (margin.closest.base, margin.p, margin.better) == ("dype", 0.01, 2)
    behind = facts._margin("w", "fid", [*ahead, effect("w", "area", 0.3, verdict="", p=0.2)])
    assert (behind.closest.base, behind.p) == ("area", 1.0)
    assert facts._margin("w", "clip_score", [effect("w", "a", 2.0), effect("w", "b", 1.0)]).closest.base == "b"


def test_winners_are_corrected_for_their_number_and_for_the_weaker_model():
    own = [facts._margin(name, "fid", [effect(name, "dype", p=p)]) for name, p in (("u", 0.01), ("v", 0.02), ("w", 1))]
    assert [margin.corrected for margin in facts._corrected(own)] == pytest.approx([0.03, 0.04, 1])
    weaker = [facts._margin(name, "fid", [effect(name, "yarn", p=p)]) for name, p in (("u", 0.04), ("v", 0.001))]
    both = facts._both([spot(margins=own), spot("second", "tiny2", weaker)])
    assert [(m.label, m.closest.base) for m in both] == [("u", "yarn"), ("v", "dype")]
    assert [m.corrected for m in both] == pytest.approx([0.04, 0.04])


def margins(corrected):
    return (Margin("w", "fid", 12, 0, 12, effect("w", "dype"), corrected, corrected),)


def test_what_is_said_of_winners():
    assert sentences.of_winners(answers(finding(NONE))) == ["No winner of a search has been tested."]
    only = answers(finding(NONE), spots=(spot(margins=margins(0.01)),), winners={"w": "method=mix"})
    assert sentences.of_winners(only) == [
        "w is better than each of the 12 published methods in FID on tiny at 384x384: dype comes closest (-1.00 ±0.50, "
        "N = 64; p = 0.01, corrected for 1 winner).",
        "On a second model they have not been tested.",
    ]
    spots = (spot(margins=margins(0.01)), spot("second", "tiny2", margins(0.2)))
    both = answers(finding(NONE), spots=spots, winners={"w": "method=mix"}, both=margins(0.2), paired=("2x", "second"))
    assert sentences.of_winners(both) == [
        "The winner of the search is not shown to be better than every published method in any metric on both models "
        "at 384x384 (N = 64 and 64)."
    ]
    wide, tall = spot("16:9", margins=margins(0.01)), spot("9:16", margins=margins(0.2))
    more = answers(
        finding(NONE), spots=(*spots, wide, tall), winners={"w": ""}, both=margins(0.2), paired=("2x", "second")
    )
    _, at_wide, nowhere_else = sentences.of_winners(more)
    assert at_wide.startswith("w is better than each of the 12 published methods in FID on tiny at 384x384")
    assert nowhere_else == "At 9:16 (N = 64) none is shown to be so."
    shown = page.html(both, ["sheet-2x-1.jpg"])
    assert "beats all 12, p = 0.01" in shown and "better than 12, worse than 0 of 12" in shown


def test_one_wild_entry_does_not_hide_the_others():
    effects = [effect("a", "b", value=0.1 * k) for k in range(1, 16)]
    assert plots.reach(effects) == pytest.approx(1.9)
    assert plots.reach([*effects, effect("a", "b", value=90.0)]) == pytest.approx(2.0)
    assert plots.reach([effects[0], effect("a", "b", value=90.0)]) == pytest.approx(90.5)
    assert plots.reach([]) == 1
