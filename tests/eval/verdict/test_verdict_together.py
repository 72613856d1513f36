"""Two places with other captions, taken together: differences are those of all captions, and nothing else changes."""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from answer_sections import CLIP, FID

from eval.verdict import page, sentences
from eval.verdict.facts import with_kept
from eval.verdict.together import apart, together
from eval.verdict.types import Answers, Asked, Effect, Finding, Spot

Z = NormalDist().inv_cdf(0.975)


def of(values, label="a", base="b", metric="clip_score"):
    """The difference of some images, with the interval of a normal distribution."""
    mean, error = values.mean(), values.std(ddof=1) / len(values) ** 0.5
    p = 2 * NormalDist().cdf(-abs(mean) / error)
    return Effect(label, base, metric, mean, mean - Z * error, mean + Z * error, len(values), p, p, "", False)


def spot(name, n=64, **other):
    return Spot(name, "tiny", "384x384", 2.0, n, 0.95, (FID, CLIP), (), None, **other)


def asked(*findings):
    return Asked("spectrum", "What does it add?", "With and without.", findings)


FIRST, AGAIN = spot("2x"), spot("2x again", follows="2x", first=64)
TITLES = (
    "2x again: tiny at 384x384, 2x the training side, captions after the first 64, N = 64",
    "2x and 2x again: tiny at 384x384, 2x the training side, N = 128",
)
VALUES = np.random.default_rng(3).normal(0.3, 1.0, 128)


def joined(*pairs):
    """The finding of both places, of some pairs of effects."""
    findings = [Finding(name, 6, own) for name, own in zip(("2x", "2x again"), zip(*pairs, strict=True), strict=True)]
    return together((FIRST, AGAIN), (asked(*findings),))


def test_a_mean_over_two_places_is_that_of_all_their_images():
    spots, (question,) = joined((of(VALUES[:64]), of(VALUES[64:])))
    assert [(spot.name, spot.n, spot.parts) for spot in spots] == [
        ("2x", 64, ()),
        ("2x again", 64, ()),
        ("2x and 2x again", 128, ("2x", "2x again")),
    ]
    found, whole = question.findings[2].effects[0], of(VALUES)
    assert question.findings[2].place == "2x and 2x again"
    assert found.value == pytest.approx(whole.value, rel=1e-5) and found.n == 128
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high), abs=0.01)
    assert found.p == pytest.approx(whole.p, rel=0.2) and found.corrected == found.p


def test_two_places_show_what_neither_shows_alone():
    parts = tuple(of((half - half.mean()) / half.std(ddof=1) + 0.2) for half in (VALUES[:64], VALUES[64:]))
    assert [part.p for part in parts] == pytest.approx([0.11, 0.11], abs=0.01)
    _, (question,) = joined(parts)
    assert question.findings[2].effects[0].verdict == "better"
    _, (worse,) = joined(tuple(replace(part, metric="fid") for part in parts))
    assert worse.findings[2].effects[0].verdict == "worse"
    _, (differs,) = joined(tuple(replace(part, metric="high_frequency") for part in parts))
    assert differs.findings[2].effects[0].verdict == "differs"


def test_unequal_numbers_of_images_count_by_their_number():
    first, second = of(VALUES[:64]), of(VALUES[64:80])
    _, (question,) = joined((first, second))
    found = question.findings[2].effects[0]
    assert found.value == pytest.approx((64 * first.value + 16 * second.value) / 80, rel=1e-5) and found.n == 80


def test_verdicts_are_corrected_for_all_differences_of_a_metric():
    other = np.random.default_rng(4).normal(0.3, 1.0, 128)
    _, (question,) = joined((of(VALUES[:64]), of(VALUES[64:])), (of(other[:64], "c"), of(other[64:], "c")))
    one, two = sorted(question.findings[2].effects, key=lambda effect: effect.p)
    assert one.corrected == pytest.approx(2 * one.p) and two.corrected == pytest.approx(max(two.p, 2 * one.p))
    assert question.findings[2].least == 7


def test_too_few_images_have_no_verdict():
    few = replace(of(VALUES[:64] + 5), n=2), replace(of(VALUES[64:] + 5), n=3)
    _, (question,) = joined(few)
    effect = question.findings[2].effects[0]
    assert (effect.n, question.findings[2].least, effect.verdict) == (5, 6, "") and effect.p < 1e-6
    _, (question,) = joined((few[0], replace(few[1], n=4)))
    assert question.findings[2].effects[0].verdict == "better"


def test_the_same_images_stay_the_same():
    same = Effect("a", "b", "clip_score", 0.0, 0.0, 0.0, 64, 1.0, None, "", True)
    _, (question,) = joined((same, same))
    effect = question.findings[2].effects[0]
    assert (effect.equal, effect.value, effect.p, effect.corrected, effect.verdict) == (True, 0, 1, None, "")


@pytest.mark.parametrize(
    "again", [spot("2x again", follows="2x", first=60), spot("2x again"), replace(AGAIN, model="tiny2")]
)
def test_places_that_share_captions_or_differ_in_more_are_left_alone(again):
    own = asked(Finding("2x", 6, (of(VALUES[:64]),)), Finding("2x again", 6, (of(VALUES[64:]),)))
    assert together((FIRST, again), (own,)) == ((FIRST, again), (own,))


def test_what_was_added_can_be_taken_away():
    own = asked(Finding("2x", 6, (of(VALUES[:64]),)), Finding("2x again", 6, (of(VALUES[64:]),)))
    assert apart(*together((FIRST, AGAIN), (own,))) == ((FIRST, AGAIN), (own,))


def test_a_place_that_another_machine_made_joins_the_one_that_is_here():
    def answers(spots, *findings):
        return Answers("captions", True, spots, (asked(*findings),), {}, (), None)

    before = answers((FIRST, spot("4x")), Finding("2x", 6, (of(VALUES[:64]),)), Finding("4x", 6, (of(VALUES[:64]),)))
    new = answers((AGAIN,), Finding("2x again", 6, (of(VALUES[64:]),)))
    found, kept = with_kept(new, before)
    order = ["2x", "2x again", "2x and 2x again", "4x"]
    assert kept == ["2x", "4x"] and [spot.name for spot in found.spots] == order
    assert [finding.place for finding in found.questions[0].findings] == order
    assert with_kept(new, found)[0] == found  # nothing is added twice
    said = sentences.of_leading(found.questions[0], found)
    assert said.startswith("On tiny at 384x384, a minus b: better in CLIP") and "(N = 128)" in said
    shown = page.html(found, [])
    assert all(title in shown for title in TITLES)
