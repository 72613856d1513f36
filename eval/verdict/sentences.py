"""Sentences on the facts of a test. Each is made by a rule, and says no more than its intervals and verdicts do.

"No difference shown" is the absence of a verdict at this number of captions; it does not say that two are equal.
"""

from __future__ import annotations

from ..answer.types import Quality
from ..output.numbers import ROUNDING, measured
from .types import Answers, Asked, Effect, Finding, Margin, Spot

LOST = "not shown after the correction"
"""What is said of an interval that leaves out 0 where the correction leaves no verdict."""
WORDS = {"better": "better", "worse": "worse", "differs": "different", "": "no difference shown"}
"""What is said of a verdict."""


def difference(effect: Effect, quality: Quality) -> str:
    """`+0.42 ±0.10 dB`."""
    shown = measured(effect.value, effect.low, effect.high, quality.digits)
    return ("+" if effect.value > ROUNDING else "") + shown + (f" {quality.unit}" if quality.unit[:1].isalpha() else "")


def of_pair(effects: dict[str, Effect], spot: Spot) -> str:
    """`better in FID (-0.42 ±0.10), no difference shown in attributes (+0.001 ±0.004)`."""
    if all(effect.equal for effect in effects.values()):
        return "the same in every value"
    parts = []
    for verdict, word in WORDS.items():
        own = [q for q in spot.quality if q.name in effects and effects[q.name].verdict == verdict]
        if own:
            parts.append(f"{word} in {_list(f'{q.title} ({difference(effects[q.name], q)})' for q in own)}")
    return "; ".join(parts)


def of_finding(finding: Finding, spot: Spot) -> list[str]:
    """Return a sentence on each pair that differs, one on those that do not, and why there is none for others."""
    n = max(effect.n for effect in finding.effects)
    if n < finding.least:
        return [f"No verdict: {n} captions are too few, at least {finding.least} are needed."]
    found, none, same = [], [], []
    for label, base in finding.pairs:
        effects = finding.of(label, base)
        if all(effect.equal for effect in effects.values()):
            same.append(f"{label} and {base}")
        elif any(effect.verdict for effect in effects.values()):
            found.append(f"{label} minus {base}: {of_pair(effects, spot)} (N = {n}).")
        else:
            none.append(f"{label} and {base}")
    if none:
        found.append(f"No difference shown in any metric (N = {n}) between {_list(none, '; ')}.")
    if same:
        found.append(f"The same images: {_list(same, '; ')}.")
    return found


def of_question(asked: Asked, answers: Answers) -> str:
    """Return one sentence for a whole question: how many differences are shown, on both models if there are two."""
    names = [name for name in answers.paired or () if any(f.place == name for f in asked.findings)]
    findings = [f for f in asked.findings if f.place in names] if len(names) == 2 else list(asked.findings[:1])
    first = findings[0]
    where = "on both models" if len(findings) == 2 else f"on {answers.spot(first.place).model}"
    pairs = [pair for pair in first.pairs if all(pair in other.pairs for other in findings)]
    counts = {"better": 0, "worse": 0, "mixed": 0, "none": 0}
    for pair in pairs:
        shared = _shared([finding.of(*pair) for finding in findings], answers.spot(first.place))
        kinds = set(shared.values())
        counts["mixed" if len(kinds) > 1 else kinds.pop() if kinds else "none"] += 1
    said = [
        f"{counts[key]} {words}"
        for key, words in (
            ("better", "with something better and nothing worse"),
            ("worse", "with something worse and nothing better"),
            ("mixed", "with both"),
            ("none", "where neither is shown"),
        )
        if counts[key]
    ]
    size, leading = answers.spot(first.place).size, of_leading(asked, answers)
    count = f"{len(pairs)} difference{'s' if len(pairs) != 1 else ''}"
    return f"{asked.title} {leading} Of {count} at {size} {where}: {_list(said)}."


def of_leading(asked: Asked, answers: Answers) -> str:
    """Return the sentence on the first difference of a question, at its first place, with one that follows it."""
    first = asked.findings[0]
    joined = (f for f in asked.findings if first.place in answers.spot(f.place).parts and f.pairs[0] == first.pairs[0])
    finding = next(joined, first)
    spot, (label, base) = answers.spot(finding.place), finding.pairs[0]
    effects = finding.of(label, base)
    n = max(effect.n for effect in effects.values())
    few = f", too few captions for a verdict: at least {finding.least} are needed" if n < finding.least else ""
    return f"On {spot.model} at {spot.size}, {label} minus {base}: {of_pair(effects, spot)} (N = {n}{few})."


def _shared(several: list[dict[str, Effect]], spot: Spot) -> dict[str, str]:
    """Verdicts "better" and "worse" by metric that hold in all of several findings."""
    found = {}
    for quality in spot.quality:
        verdicts = {effects[quality.name].verdict if quality.name in effects else "" for effects in several}
        if len(verdicts) == 1 and (verdict := verdicts.pop()) in ("better", "worse"):
            found[quality.name] = verdict
    return found


def of_both(asked: Asked, answers: Answers) -> list[str]:
    """Return a sentence on each pair that is better or worse in the same metric on both models."""
    if not answers.paired:
        return []
    findings = [f for name in answers.paired for f in asked.findings if f.place == name]
    if len(findings) < 2:
        return []
    spot, found = answers.spot(findings[0].place), []
    for pair in findings[0].pairs:
        several = [finding.of(*pair) for finding in findings]
        for verdict in ("better", "worse"):
            names = [name for name, own in _shared(several, spot).items() if own == verdict]
            own = [q for q in spot.quality if q.name in names]
            if own:
                each = (f"{q.title} ({'; '.join(difference(e[q.name], q) for e in several)})" for q in own)
                found.append(f"{pair[0]} is {verdict} than {pair[1]} on both models in {_list(each)}.")
    return found or ["No difference is shown on both models."]


def beats(margin: Margin, spot: Spot) -> bool:
    """Whether a winner is better than every method of the field, corrected for the number of winners."""
    return margin.corrected <= round(1 - spot.level, 12)


def of_margin(margin: Margin, spot: Spot, winners: int, both: bool) -> str:
    """Return a sentence on a winner that is better than every method of the field in a metric."""
    quality, closest = next(q for q in spot.quality if q.name == margin.metric), margin.closest
    where, many = "on both models" if both else f"on {spot.model}", "" if winners == 1 else "s"
    return (
        f"{margin.label} is better than each of the {margin.field} published methods in {quality.title} {where} at "
        f"{spot.size}: {closest.base} comes closest ({difference(closest, quality)}, N = {closest.n}; "
        f"p = {margin.corrected:.2g}, corrected for {winners} winner{many})."
    )


def of_winners(answers: Answers) -> list[str]:
    """Return whether a combination that the search found beats every published method, in what, and at which place."""
    if not answers.winners:
        return ["No winner of a search has been tested."]
    both = bool(answers.both)
    own = [answers.spot(name) for name in answers.paired or ()] if both else list(answers.spots[:1])
    margins = answers.both or own[0].margins
    if not margins:
        return ["The winners of the search have no scores yet."]
    winners = len({margin.label for margin in margins})
    found = [of_margin(m, own[0], winners, both) for m in margins if beats(m, own[0])]
    where = "on both models" if both else f"on {own[0].model}"
    if not found:
        who = "The winner of the search is not" if winners == 1 else f"None of the {winners} winners of the search is"
        n = " and ".join(str(spot.n) for spot in own)
        found = [
            f"{who} shown to be better than every published method in any metric {where} at {own[0].size} (N = {n})."
        ]
    rest = []
    for spot in (spot for spot in answers.spots if spot.margins and spot not in own):
        ahead = [of_margin(m, spot, winners, False) for m in spot.margins if beats(m, spot)]
        found += ahead
        rest += [] if ahead else [f"{spot.name} (N = {spot.n})"]
    if rest:
        found.append(f"At {_list(rest)} none is shown to be so.")
    return found + ([] if both else ["On a second model they have not been tested."])


def _list(parts: object, comma: str = ", ") -> str:
    words = list(parts)  # type: ignore[call-overload]
    return words[0] if len(words) == 1 else f"{comma.join(words[:-1])}{comma if comma != ', ' else ' '}and {words[-1]}"
