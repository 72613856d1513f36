"""Sentences about methods. Each is made by a rule from verdicts and costs, so it says nothing that the records do not.

"Better" and "worse" are verdicts of paired comparisons (`eval/report/compare.py`). "Not distinguishable" is the absence
of one at this number of images; it does not say that two methods are equal.
"""

from __future__ import annotations

from typing import cast

from ..output.numbers import with_interval
from ..records.schema import Interval
from .rules import able, best, budgets, cheapest, for_metric, places
from .types import COSTS, Section


def of_section(section: Section) -> list[str]:
    """Return what a size comes to: the first of the ranks, the cheapest that is no worse, or why neither is said."""
    if not section.ranked:
        return ["No method was scored at this size."]
    if len(section.ranked) == 1:
        return ["Only one method was scored at this size, so there is nothing to compare."]
    if not section.decides:
        return [_too_few(section)]
    top, choice = best(section), cheapest(section)
    if top is None:
        return ["No two methods share images with scores."]
    place, names = places(section)[top], section.methods
    if place.won == place.lost == 0:
        found = [f"No method is distinguishable from another (N = {section.n})."]
        if choice is not None:
            found.append(f"{names[choice].label} is the cheapest of them{_as_cheap(section, choice)}.")
        return found
    found = [
        f"{names[top].label} ranks first: better than another method in {place.won} of {place.compared} comparisons, "
        f"worse in {place.lost} (N = {section.n})."
    ]
    if choice is None:
        return found + ["What an image costs was not recorded."]
    if choice != top:
        cost = _ratio(section, choice, top) + _as_cheap(section, choice)
        found.append(
            f"{names[choice].label} is the cheapest method that is not worse than it in any metric: it is "
            f"{_indistinct(section, choice, top)}, and costs {cost}."
        )
    elif any(_is_cheaper(section, k, top) for k in section.ranked):
        found.append("Every cheaper method that is compared with it is worse in at least one metric.")
    else:
        found.append("No method is cheaper.")
    return found


def _is_cheaper(section: Section, a: int, b: int) -> bool:
    one, other = section.cost_of(a), section.cost_of(b)
    return one is not None and other is not None and one < other


def _as_cheap(section: Section, choice: int) -> str:
    """` (as is X)`: methods that the same words are true of, so that the first of the table is not made special."""
    others = [k for k in able(section) if k != choice and section.cost_of(k) == section.cost_of(choice)]
    if len(others) > 2:
        return f" (with {len(others)} others of the same cost)"
    return f" (with {' and '.join(section.methods[k].label for k in others)} at the same cost)" if others else ""


def of_method(section: Section, k: int) -> str:
    """Return one sentence on a method: against the best of its size, in quality and cost."""
    top = best(section)
    if top is None or not section.decides:
        return _too_few(section) if section.n and not section.decides else "Not compared: no common images with scores."
    if (twin := _twin(section, k)) is not None:
        return f"Equal to {section.methods[twin].label} in every value (N = {_n(section, k, twin)})."
    place = places(section).get(k)
    if place is None:
        shared = max((pair["n"] for key, pair in section.verdicts.items() if str(k) in key.split()), default=0)
        why = (
            f"only {shared} common images, at least {section.least} are needed"
            if shared
            else "no common images with scores"
        )
        return f"Not compared: {why}."
    if place.won == place.lost == 0:
        return f"Not distinguishable from any other method in any metric (N = {section.n})."
    if k == top:
        return (
            f"First: better than another method in {place.won} of {place.compared} comparisons, worse in {place.lost} "
            f"(N = {section.n})."
        )
    verdicts = section.against(k, top)
    if not verdicts:
        return f"Not compared with {section.methods[top].label}, which ranks first: too few common images."
    n = _n(section, k, top)
    if text := _differences(section, k, top):
        if same := [m for m, v in verdicts.items() if v == ""]:
            text += f", not distinguishable in {_listed(section, same)}"
    else:
        text = _indistinct(section, k, top)
    cost = _ratio(section, k, top)
    text = f"{text} (N = {n})" + (f"; costs {cost}" if cost else "")
    return text[0].upper() + text[1:] + "."


def of_budgets(section: Section) -> list[tuple[str, str, str, str]]:
    """Return the table of budgets: least cost, the seconds an image took (middle 80 %), the choice, and why."""
    found, before = [], None
    for choice, top in budgets(section):
        cost, limit = section.cost_of(choice) or 0.0, section.cost_of(top) or 0.0
        least, most = (section.methods[choice].cost[end] for end in ("least", "most"))
        took = "" if least is None or most is None else f"{amount(least)} to {amount(most)}"
        if choice == top:
            said = _differences(section, choice, before) if before is not None else ""
            why = f"the best rank up to this cost{': ' if said else ''}{said}"
        else:
            name = section.methods[top].label
            why = f"{_indistinct(section, choice, top)}; {name}, at {amount(limit)}, has the best rank up to that cost"
        found.append((amount(cost), took, section.methods[choice].label, why))
        before = choice
    return found


def of_metrics(section: Section) -> list[tuple[str, str, str, str]]:
    """Return for each metric its title, the best value, the cheapest method that is not worse than it, and its cost."""
    found = []
    for quality in section.quality:
        pair = for_metric(section, quality.name, quality.higher_is_better)
        if pair is not None:
            top, choice = pair
            value = with_interval(cast(Interval, section.methods[top].scores[quality.name]), quality.digits)
            cost = section.cost_of(choice)
            shown = "" if cost is None else amount(cost)
            found.append(
                (quality.title, f"{section.methods[top].label}, {value}", section.methods[choice].label, shown)
            )
    return found


def of_front(section: Section, front: list[int]) -> str:
    """Return the methods of a Pareto front with their costs, from the cheapest."""
    unit = COSTS.get(section.cost, "")
    shown = []
    for k in front:
        cost = section.cost_of(k)
        shown.append(f"{section.methods[k].label} ({'' if cost is None else amount(cost)})")
    return f"Front, from the cheapest ({unit}): {', '.join(shown)}."


def amount(cost: float) -> str:
    """Format a cost with three significant digits, above 1000 as a whole number."""
    return f"{cost:.0f}" if cost >= 1000 else f"{cost:.3g}"


def _too_few(section: Section) -> str:
    return f"No verdict: N = {section.n} common images are too few, at least {section.least} are needed."


def _twin(section: Section, k: int) -> int | None:
    """The first method of the table that equals a later one in every value."""
    return next((j for j in section.ranked if j < k and section.is_equal(j, k)), None)


def _n(section: Section, a: int, b: int) -> int:
    return int(section.verdicts[f"{min(a, b)} {max(a, b)}"]["n"])


def _indistinct(section: Section, a: int, b: int) -> str:
    """`not distinguishable from X in FID and CLIP`, with `better in` before it where a verdict says so."""
    verdicts, name = section.against(a, b), section.methods[b].label
    better = [m for m, v in verdicts.items() if v == "better"]
    same = [m for m, v in verdicts.items() if v == ""]
    if better and same:
        return f"better than {name} in {_listed(section, better)} and not distinguishable in {_listed(section, same)}"
    if better:
        return f"better than {name} in {_listed(section, better)}"
    return f"not distinguishable from {name} in {_listed(section, same)}"


def _differences(section: Section, a: int, b: int) -> str:
    """`better than X in FID and worse than X in CLIP`; "" if no verdict says so."""
    verdicts, name = section.against(a, b), section.methods[b].label
    return " and ".join(
        f"{verdict} than {name} in {_listed(section, [m for m, v in verdicts.items() if v == verdict])}"
        for verdict in ("better", "worse")
        if verdict in verdicts.values()
    )


def _listed(section: Section, names: list[str]) -> str:
    titles = [quality.title for quality in section.quality if quality.name in names]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"


def _ratio(section: Section, a: int, b: int) -> str:
    """`half as much (7.5 against 20 full-size calls)`; "" if a cost is not known."""
    one, other = section.cost_of(a), section.cost_of(b)
    if one is None or not other:
        return ""
    ratio = one / other
    words = {1.0: "as much", 0.5: "half as much", 2.0: "twice as much"}
    near = next((word for value, word in words.items() if abs(ratio / value - 1) <= 0.02), f"{ratio:.2g} times as much")
    if near == "1 times as much":
        near = f"{ratio:.2f} times as much"
    return f"{near} ({amount(one)} against {amount(other)} {COSTS[section.cost]})"
