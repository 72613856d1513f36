"""Collect the facts of a scored test: differences with corrected verdicts, winners, and what the field comes to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..answer.collect import Options, collect, quality
from ..answer.types import Section
from ..metrics.inference import holm
from ..metrics.registry import metrics
from ..records.rows import Row, is_embedded
from ..report.compare import Comparison, Pair, judged
from .plan import WINNERS, Plan, Question
from .rows import Rows
from .together import apart, together
from .types import Answers, Asked, Effect, Finding, Margin, Spot, rounded

FIELD, ANCHORS = "field", "anchors"
"""Groups of the published methods, and of those that only show what a staged method costs."""


def facts(plan: Plan, rows: Rows, cache: Path) -> Answers:
    """Return the content of the page from the rows of a plan."""
    comparison = Comparison(cache)
    rows = {place: own for place, own in rows.items() if own}
    spots = tuple(_spot(plan, place, own, cache, comparison) for place, own in rows.items())
    questions = tuple(
        Asked(
            question.name,
            question.title,
            question.about,
            tuple(found for place, own in rows.items() if (found := _finding(plan, question, place, own, comparison))),
        )
        for question in plan.questions
    )
    return _answers(
        f"{plan.about}, with the noise of seed {', '.join(map(str, plan.seeds))}",
        any(is_embedded(list(own.values())) for own in rows.values()),
        spots,
        tuple(asked for asked in questions if asked.findings),
        {entry.label: " ".join(entry.words) for entry in plan.group(WINNERS)},
    )


def _answers(
    captions: str, embedded: bool, spots: tuple[Spot, ...], questions: tuple[Asked, ...], winners: dict[str, str]
) -> Answers:
    """The content of the page, with what two models come to together."""
    spots, questions = together(spots, questions)
    paired = _paired(spots)
    both = _both([spot for spot in spots if paired and spot.name in paired])
    return Answers(captions, embedded, spots, questions, winners, both, paired)


def with_kept(new: Answers, old: Answers) -> tuple[Answers, list[str]]:
    """Return new facts with the places that only an older record has, and the names of these.

    A store may have some places of a plan, another machine having made the others. Nothing is kept of other captions,
    noise or winners.
    """
    if (old.captions, old.winners) != (new.captions, new.winners):
        return new, []
    (spots, asked_new), (were, asked_old) = (apart(answers.spots, answers.questions) for answers in (new, old))
    names = [spot.name for spot in spots]
    kept = [spot for spot in were if spot.name not in names]
    order = [spot.name for spot in were]
    for spot in spots:
        if spot.name not in order:
            order.insert(order.index(spot.follows) + 1 if spot.follows in order else len(order), spot.name)
    spots = tuple(sorted([*spots, *kept], key=lambda spot: order.index(spot.name)))
    own, before = ({asked.name: asked for asked in questions} for questions in (asked_new, asked_old))
    away, questions = [spot.name for spot in kept], []
    for name, asked in (before | own).items():
        found = [finding for finding in before[name].findings if finding.place in away] if name in before else []
        found += own[name].findings if name in own else ()
        found.sort(key=lambda finding: order.index(finding.place))
        questions.append(replace(asked, findings=tuple(found)))
    there = tuple(asked for asked in questions if asked.findings)
    embedded = new.is_embedded or old.is_embedded
    return _answers(new.captions, embedded, spots, there, new.winners), away


def _finding(
    plan: Plan, question: Question, place: str, rows: dict[str, Row], comparison: Comparison
) -> Finding | None:
    """Compare the pairs of a question at a place; its comparisons of a metric are one family."""
    there = [(rows[a], rows[b]) for a, b in question.pairs if a in rows and b in rows]
    pairs = judged([comparison.pair(a, b, metric) for a, b in there for metric in plan.metrics])
    effects = tuple(effect for pair in pairs if (effect := _effect(pair)))
    return Finding(place, max(pair.least for pair in pairs), effects) if effects else None


def _effect(pair: Pair) -> Effect | None:
    """The facts of a comparison; None without common images."""
    d = pair.difference
    if d is None:
        return None
    labels = pair.row.label, pair.base.label
    numbers = (rounded(d.value), rounded(d.low), rounded(d.high), d.n, rounded(pair.p), rounded(pair.corrected))
    return Effect(*labels, pair.metric, *numbers, pair.verdict, pair.is_equal)  # type: ignore[arg-type]


def _spot(plan: Plan, place: str, rows: dict[str, Row], cache: Path, comparison: Comparison) -> Spot:
    first = next(iter(rows.values()))
    return Spot(
        place,
        first.run.model,
        first.size,
        first.scale,
        min(len(row.images) for row in rows.values()),
        first.block["settings"]["bootstrap"]["level"],
        quality(list(rows.values()), plan.metrics),
        _margins(plan, rows, comparison),
        _field(plan, rows, cache),
        plan.places[place].follows,
        plan.places[place].first,
    )


def _field(plan: Plan, rows: dict[str, Row], cache: Path) -> Section | None:
    """What the published methods come to at a place, by the rules of `eval.answer`. Costs are calls: seconds of
    processes that share a device tell nothing."""
    labels = [entry.label for group in (FIELD, ANCHORS) for entry in plan.group(group)]
    own = [rows[label] for label in labels if label in rows]
    names = tuple(name for name in plan.metrics if metrics()[name].ranked)
    sections = collect(own, cache, Options("calls", names)).sections
    return replace(sections[0], busy=True) if len(own) > 1 and sections else None


def _margins(plan: Plan, rows: dict[str, Row], comparison: Comparison) -> tuple[Margin, ...]:
    """Compare every winner of the search with every method of the field, in each metric that has a better end."""
    field = [rows[entry.label] for entry in plan.group(FIELD) if entry.label in rows]
    winners = [rows[entry.label] for entry in plan.group(WINNERS) if entry.label in rows]
    found = []
    for metric in (name for name in plan.metrics if metrics()[name].ranked):
        pairs = judged([comparison.pair(winner, other, metric) for winner in winners for other in field])
        effects: dict[str, list[Effect]] = {}
        for effect in filter(None, map(_effect, pairs)):
            effects.setdefault(effect.label, []).append(effect)
        found += _corrected([_margin(label, metric, own) for label, own in effects.items()])
    return tuple(found)


def _margin(label: str, metric: str, effects: list[Effect]) -> Margin:
    sign = 1 if metrics()[metric].higher_is_better else -1
    closest = min(effects, key=lambda effect: sign * effect.value)
    p = max(effect.p or 0.0 for effect in effects) if sign * closest.value > 0 else 1.0
    verdicts = [effect.verdict for effect in effects]
    return Margin(label, metric, verdicts.count("better"), verdicts.count("worse"), len(effects), closest, p, p)


def _corrected(margins: list[Margin]) -> list[Margin]:
    """Correct the margins of one metric for the number of winners."""
    return [replace(m, corrected=p) for m, p in zip(margins, holm([m.p for m in margins]), strict=True)]


def _paired(spots: tuple[Spot, ...]) -> tuple[str, str] | None:
    """The first place, and the same size on another model."""
    for one in spots:
        for other in spots:
            if one.size == other.size and one.model != other.model:
                return one.name, other.name
    return None


def _both(spots: list[Spot]) -> tuple[Margin, ...]:
    """Margins on two models together: better than every method on both. The larger p counts, and the smaller lead."""
    if len(spots) < 2:
        return ()
    found = []
    for metric in dict.fromkeys(margin.metric for margin in spots[0].margins):
        own = []
        for margin in (m for m in spots[0].margins if m.metric == metric):
            other = next((m for m in spots[1].margins if (m.label, m.metric) == (margin.label, metric)), None)
            if other is not None:
                own.append(replace(max(margin, other, key=lambda m: m.p), p=max(margin.p, other.p)))
        found += _corrected(own)
    return tuple(found)
