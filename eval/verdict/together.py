"""Take the captions of two places together, where one goes on from the other: a difference then has both N."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from statistics import NormalDist

from ..metrics.inference import holm, least_pairs
from ..metrics.registry import metrics
from .types import Asked, Effect, Finding, Spot


def together(spots: tuple[Spot, ...], questions: tuple[Asked, ...]) -> tuple[tuple[Spot, ...], tuple[Asked, ...]]:
    """Return spots and questions with those of both places added, each behind its second place."""
    found, joined = [], []
    for spot in spots:
        found.append(spot)
        first = next((other for other in spots if other.name == spot.follows), None)
        if first is not None and _fits(first, spot):
            joined.append(_spot(first, spot))
            found.append(joined[-1])
    return tuple(found), tuple(replace(asked, findings=_findings(asked, joined)) for asked in questions)


def apart(spots: tuple[Spot, ...], questions: tuple[Asked, ...]) -> tuple[tuple[Spot, ...], tuple[Asked, ...]]:
    """Return spots and questions without what `together` has added."""
    names = {spot.name for spot in spots if spot.parts}
    return tuple(spot for spot in spots if not spot.parts), tuple(
        replace(asked, findings=tuple(f for f in asked.findings if f.place not in names)) for asked in questions
    )


def _fits(first: Spot, second: Spot) -> bool:
    """Whether both are of one model and size and have no caption in common."""
    return (first.model, first.size) == (second.model, second.size) and first.first + first.n <= second.first


def _spot(first: Spot, second: Spot) -> Spot:
    names = first.name, second.name
    n = first.n + second.n
    return replace(first, name=" and ".join(names), n=n, margins=(), field=None, parts=names)


def _findings(asked: Asked, joined: Iterable[Spot]) -> tuple[Finding, ...]:
    found = list(asked.findings)
    for spot in joined:
        own = [next((f for f in asked.findings if f.place == part), None) for part in spot.parts]
        if own[0] and own[1] and (effects := _effects(own[0], own[1], spot.level)):
            least = least_pairs(max(_family(effects).values(), default=1), round(1 - spot.level, 12))
            found.insert(found.index(own[1]) + 1, Finding(spot.name, least, tuple(effects)))
    return tuple(found)


def _family(effects: list[Effect]) -> dict[str, int]:
    """Number of differences that are corrected together, by metric."""
    names = [effect.metric for effect in effects if not effect.equal]
    return {name: names.count(name) for name in names}


def _effects(first: Finding, second: Finding, level: float) -> list[Effect]:
    """The differences that both findings have, with verdicts corrected for all of a metric."""
    found = []
    for one in first.effects:
        other = second.of(one.label, one.base).get(one.metric)
        if other is not None and None not in (one.low, one.high, other.low, other.high):
            found.append(_effect(one, other, level))
    for metric in _family(found):
        places = [k for k, effect in enumerate(found) if effect.metric == metric and not effect.equal]
        least = least_pairs(len(places), round(1 - level, 12))
        for k, corrected in zip(places, holm([found[k].p or 0.0 for k in places]), strict=True):
            verdict = _verdict(found[k], corrected, level) if found[k].n >= least else ""
            found[k] = replace(found[k], corrected=corrected, verdict=verdict)
    return found


def _effect(one: Effect, other: Effect, level: float) -> Effect:
    """The mean of two differences, weighted by their images, and the error of it from those of both.

    For a mean over images that is the difference on all images. For a distance it is the mean of two, each at its N: a
    distance depends on N, and its difference much less. Errors are half the width of an interval, as of a normal
    distribution.
    """
    n, z = one.n + other.n, NormalDist().inv_cdf((1 + level) / 2)
    value = (one.n * one.value + other.n * other.value) / n
    half = math.hypot(*(e.n * (e.high - e.low) / 2 for e in (one, other))) / n  # type: ignore[operator]
    p = math.erfc(abs(value) / half * z / math.sqrt(2)) if half else float(value == 0)
    numbers = (float(f"{number:.6g}") for number in (value, value - half, value + half))
    return Effect(one.label, one.base, one.metric, *numbers, n, float(f"{p:.6g}"), None, "", one.equal and other.equal)


def _verdict(effect: Effect, corrected: float, level: float) -> str:
    if corrected > round(1 - level, 12):
        return ""
    metric = metrics()[effect.metric]
    if not metric.ranked:
        return "differs"
    return "better" if (effect.value > 0) == metric.higher_is_better else "worse"
