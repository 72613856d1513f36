"""Rules that turn verdicts into an order, a choice and a front. They read a `Section` and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from .types import Section


@dataclass(frozen=True)
class Place:
    """Where a method stands: comparisons won and lost over all other methods and metrics."""

    rank: int
    won: int
    lost: int
    compared: int


def places(section: Section) -> dict[int, Place]:
    """Rank the methods of a section by comparisons won minus comparisons lost; equal ones share a rank.

    A comparison is a verdict on two methods and one metric. Methods without any are left out.
    """
    found: dict[int, tuple[int, int, int]] = {}
    for a in section.ranked:
        verdicts = [v for b in section.ranked if b != a for v in section.against(a, b).values()]
        if verdicts:
            found[a] = verdicts.count("better"), verdicts.count("worse"), len(verdicts)
    score = {k: won - lost for k, (won, lost, _) in found.items()}
    return {
        k: Place(1 + sum(other > score[k] for other in score.values()), won, lost, compared)
        for k, (won, lost, compared) in found.items()
    }


def best(section: Section, among: list[int] | None = None) -> int | None:
    """Return the method of the first rank; of several the cheapest, then the first in the order of the table."""
    found = places(section)
    known = [k for k in (section.ranked if among is None else among) if k in found]
    return min(known, key=lambda k: (found[k].rank, _price(section, k), k), default=None)


def is_no_worse(section: Section, a: int, b: int) -> bool:
    """Whether a is compared with b and worse in no metric."""
    verdicts = section.against(a, b)
    return a == b or (bool(verdicts) and "worse" not in verdicts.values())


def cheapest(section: Section, among: list[int] | None = None) -> int | None:
    """Return the cheapest method that is worse than the best in no metric, of several the one of the better rank.

    None without verdicts or costs.
    """
    found = places(section)
    return min(able(section, among), key=lambda k: (_price(section, k), found[k].rank, k), default=None)


def able(section: Section, among: list[int] | None = None) -> list[int]:
    """Return the methods that are worse than the best in no metric; [] without verdicts or without its cost."""
    known = section.ranked if among is None else among
    top = best(section, known)
    if top is None or section.cost_of(top) is None:
        return []
    return [k for k in known if section.cost_of(k) is not None and is_no_worse(section, k, top)]


def budgets(section: Section) -> list[tuple[int, int]]:
    """Return (choice, best), from the cheapest choice: what to take from the cost of the choice on.

    For each budget the choice is the cheapest method that is worse in no metric than the best one within it. A choice
    of a smaller budget that costs as much or more than that of a larger one is left out.
    """
    found: list[tuple[int, int]] = []
    costs = {k: cost for k in section.ranked if (cost := section.cost_of(k)) is not None}
    for budget in sorted(set(costs.values())):
        among = [k for k in costs if costs[k] <= budget]
        choice, top = cheapest(section, among), best(section, among)
        if choice is None or top is None or (found and found[-1][0] == choice):
            continue
        while found and costs[found[-1][0]] >= costs[choice]:
            found.pop()
        if not found or found[-1][0] != choice:
            found.append((choice, top))
    return found


def for_metric(section: Section, metric: str, higher_is_better: bool) -> tuple[int, int] | None:
    """Return the method with the best value of a metric, and the cheapest that is not worse than it in this one.

    None if no two methods are compared, or no cost is known.
    """
    known = [k for k in section.ranked if "value" in section.methods[k].scores.get(metric, {})]
    sign = -1 if higher_is_better else 1
    top = min(
        known, key=lambda k: (sign * section.methods[k].scores[metric]["value"], _price(section, k), k), default=0
    )
    verdicts = {k: section.verdict(k, top, metric) for k in known if k != top}
    fit = [k for k in known if section.cost_of(k) is not None and (k == top or verdicts[k] in ("", "better"))]
    if not fit or all(verdict is None for verdict in verdicts.values()):
        return None
    return top, min(fit, key=lambda k: (_price(section, k), sign * section.methods[k].scores[metric]["value"], k))


def front(section: Section, metric: str, higher_is_better: bool) -> list[int]:
    """Return the methods that no other one beats in both cost and value, from the cheapest."""
    sign = 1 if higher_is_better else -1
    known = [
        (cost, -sign * section.methods[k].scores[metric]["value"], k)
        for k in section.ranked
        if (cost := section.cost_of(k)) is not None and "value" in section.methods[k].scores.get(metric, {})
    ]
    found: list[tuple[float, float, int]] = []
    for cost, value, k in sorted(known):
        if not found or value < found[-1][1]:
            found.append((cost, value, k))
    return [k for _, _, k in found]


def _price(section: Section, k: int) -> float:
    cost = section.cost_of(k)
    return float("inf") if cost is None else cost
