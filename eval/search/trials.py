"""The trials of a search as its journal has them, and the winners among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .definition import Value, word
from .journal import REFUSED, START

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

STATES = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "refused"}


@dataclass(frozen=True)
class TrialRow:
    """A trial. What it reached is of the largest number of prompts that it was scored on."""

    number: int
    start: str  # label of a starting point, "" for others
    state: str  # complete | stopped | refused | running
    rank: float | None  # mean rank among the starting points, on these prompts
    settings: dict[str, Value]
    prompts: int = 0
    images: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    ranks: dict[str, float] = field(default_factory=dict)  # by metric; of complete trials
    operations: float | None = None
    calls: float | None = None
    seconds: float | None = None
    run: str = ""  # folder of the images
    why: str = ""  # it was refused

    @property
    def label(self) -> str:
        """Name in tables."""
        return self.start or f"trial {self.number}"

    @property
    def overrides(self) -> list[str]:
        """Words for a line of run.py, besides the fixed settings of the search."""
        return [word(key, value) for key, value in self.settings.items()]

    @property
    def cost(self) -> float | None:
        """Operations of an image, or its calls where they are not counted."""
        return self.calls if self.operations is None else self.operations


def read_trials(study: Study) -> list[TrialRow]:
    """Return all trials in the order of their numbers."""
    return [_row(trial) for trial in study.get_trials(deepcopy=False)]


def _row(trial: FrozenTrial) -> TrialRow:
    about: dict[str, Any] = trial.user_attrs
    found = about.get("found") or {}
    last = found[max(found, key=int)] if found else {}
    rank = trial.values[0] if trial.values else about.get("beaten", {}).get("rank")
    return TrialRow(
        trial.number,
        about.get(START, ""),
        "refused" if REFUSED in about else STATES.get(trial.state.name, "running"),
        about["beaten"]["rank"] if "beaten" in about else rank,
        about.get("settings", {}),
        **{key: last[key] for key in ("prompts", "images", "scores", "operations", "calls", "seconds") if key in last},
        ranks=about.get("ranks", {}),
        run=about.get("run", ""),
        why=about.get(REFUSED, ""),
    )


def ordered(rows: list[TrialRow]) -> list[TrialRow]:
    """Return the complete trials from the lowest mean rank on, each setting once; starting points before others."""
    found: dict[tuple[str, ...], TrialRow] = {}
    for row in sorted(rows, key=lambda row: not row.start):
        if row.state == "complete" and row.rank is not None:
            found.setdefault(tuple(row.overrides), row)
    return sorted(found.values(), key=lambda row: (row.rank, row.number))


def front(rows: list[TrialRow]) -> list[TrialRow]:
    """Return the complete trials that no other one equals or beats in both rank and cost, from the cheapest on."""
    found: list[TrialRow] = []
    for row in sorted(ordered(rows), key=lambda row: (row.cost or 0.0, row.rank)):
        if not found or row.rank < found[-1].rank:
            found.append(row)
    return found


def winners(rows: list[TrialRow], count: int, cost: bool) -> list[TrialRow]:
    """Return what is worth a confirmation on other prompts: the best trials, or the front where cost is an objective.

    Of the best trials those that differ in numbers alone are one idea, of which the best counts. Starting points are
    none: what is published needs no search.
    """
    if cost:
        return [row for row in front(rows) if not row.start][:count]
    ideas: dict[tuple[tuple[str, Value], ...], TrialRow] = {}
    for row in ordered(rows):
        if not row.start:
            choices = tuple((key, value) for key, value in row.settings.items() if isinstance(value, str | bool))
            ideas.setdefault(choices, row)
    return list(ideas.values())[:count]
