"""Take the captions of two places together, where one goes on from the other: a difference then has both N."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from statistics import NormalDist

from ..metrics.inference import holm, least_pairs
from ..metrics.registry import metrics
from .types import Asked, Effect, Finding, Spot, rounded


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
        if own[0] and own[1] and (finding := _finding(spot, own[0], own[1])):
            found.insert(found.index(own[1]) + 1, finding)
    return tuple(found)


def _finding(spot: Spot, first: Finding, second: Finding) -> Finding | None:
    """The differences that both findings have, those of a metric corrected together."""
    effects, families = [], dict[str, list[int]]()
    for one in first.effects:
        other = second.of(one.label, one.base).get(one.metric)
        if other is None or None in (one.low, one.high, other.low, other.high):
            continue
        effects.append(_effect(one, other, spot.level))
        if not effects[-1].equal:
            families.setdefault(one.metric, []).append(len(effects) - 1)
    error, least = round(1 - spot.level, 12), 0
    for metric, family in families.items():
        needed = least_pairs(len(family), error)
        least = max(least, needed)
        for k, corrected in zip(family, holm([effects[k].p or 0.0 for k in family]), strict=True):
            shown = corrected <= error and effects[k].n >= needed
            verdict = metrics()[metric].verdict(effects[k].value) if shown else ""
            effects[k] = replace(effects[k], corrected=corrected, verdict=verdict)
    return Finding(spot.name, least, tuple(effects)) if effects else None


def _effect(one: Effect, other: Effect, level: float) -> Effect:
    """The mean of two differences, weighted by their images, and the error of it from those of both.

    For a mean over images that is the difference on all images. For a distance it is the mean of two, each at its N: a
    distance depends on N, and its difference much less. Errors are half the width of an interval, as of a normal
    distribution.
    """
    n, z = one.n + other.n, NormalDist().inv_cdf((1 + level) / 2)
    value = (one.n * one.value + other.n * other.value) / n
    half = math.hypot(*(e.n * (e.high - e.low) / 2 for e in (one, other))) / n  # type: ignore[operator]
    p = math.erfc(z * abs(value) / half / math.sqrt(2)) if half else float(value == 0)
    numbers = rounded(value), rounded(value - half), rounded(value + half), n, rounded(p)
    return Effect(one.label, one.base, one.metric, *numbers, None, "", one.equal and other.equal)  # type: ignore[arg-type]
