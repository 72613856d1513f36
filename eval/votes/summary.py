"""From votes to numbers by method and by pair of methods, and to a column of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..metrics.registry import metrics
from ..records.files import digest
from ..records.rows import Row
from ..records.schema import MetricScore
from . import model
from .read import Ballots, Group, Vote, counts, files_of, read

COLUMN = "preference"
"""Name of the metric that votes make."""
FOLDER = "votes"
"""Folder of a store whose files make the column."""
Interval = tuple[float, float | None, float | None]


@dataclass(frozen=True)
class Standing:
    """A method in the votes of a group."""

    row: Row
    score: Interval  # Bradley-Terry
    wins: Interval  # share of its votes
    votes: int
    prompts: int


@dataclass(frozen=True)
class Duel:
    """Two methods that were compared; `wins` is the share of the first."""

    row: Row
    other: Row
    wins: Interval
    votes: int
    prompts: int


@dataclass(frozen=True)
class Result:
    """Everything that the votes of a group say, best method first."""

    group: Group
    standings: list[Standing]
    duels: list[Duel]
    raters: dict[str, int]
    alpha: float | None  # agreement of raters
    shared: int  # pairs of images that several raters voted on
    connected: bool  # whether a chain of votes leads from each method to each other one
    level: float


def results(votes: list[Vote], rows: list[Row]) -> list[Result]:
    """Return a result for each group that has votes, in the order of the rows."""
    held: dict[Group, dict[str, Row]] = {}
    for row in rows:
        held.setdefault((row.run.model, row.size), {}).setdefault(row.run.hash, row)
    own = {group: [vote for vote in votes if vote.group == group] for group in held}
    return [_result(group, own[group], held[group]) for group in held if own[group]]


def _result(group: Group, votes: list[Vote], held: dict[str, Row]) -> Result:
    votes = sorted(votes, key=lambda vote: (vote.key, vote.a, vote.b, vote.rater))
    names = [name for name in held if any(name in (vote.a, vote.b) for vote in votes)]
    place = {name: k for k, name in enumerate(names)}
    prompts = {prompt: k for k, prompt in enumerate(dict.fromkeys(vote.key[0] for vote in votes))}
    wins = np.zeros((len(prompts), len(names), len(names)))
    for vote in votes:
        a, b, prompt = place[vote.a], place[vote.b], prompts[vote.key[0]]
        wins[prompt, a, b] += vote.score
        wins[prompt, b, a] += 1 - vote.score
    options = held[names[0]].block["settings"].get("bootstrap", {})
    level, seed = options.get("level", 0.95), options.get("seed", 0)
    scale = model.scale(wins, options.get("samples", 1000), level, seed)
    standings = []
    for k, name in enumerate(names):
        ends = (None, None) if scale.low is None or scale.high is None else (float(scale.low[k]), float(scale.high[k]))
        share, count, seen = _share(wins[:, k, :].sum(1), wins[:, :, k].sum(1), level)
        standings.append(Standing(held[name], (float(scale.value[k]), *ends), share, count, seen))
    duels = []
    for k, name in enumerate(names):
        for j in range(k + 1, len(names)):
            if (wins[:, k, j] + wins[:, j, k]).any():
                share, count, seen = _share(wins[:, k, j], wins[:, j, k], level)
                duels.append(Duel(held[name], held[names[j]], share, count, seen))
    units: dict[Any, list[float]] = {}
    for vote in votes:
        units.setdefault((vote.key, vote.a, vote.b), []).append(vote.score)
    shared = [unit for unit in units.values() if len(unit) > 1]
    # which of the two methods is first is no choice of a rater, so each pair counts in both orders
    alpha = model.krippendorff([*shared, *([1 - score for score in unit] for unit in shared)])
    standings.sort(key=lambda standing: -standing.score[0])
    is_connected = _is_connected(wins.sum(0))
    return Result(group, standings, duels, dict(counts(votes)), alpha, len(shared), is_connected, level)


def _share(won: np.ndarray, lost: np.ndarray, level: float) -> tuple[Interval, int, int]:
    """Return the share of wins with its interval, the number of votes and of prompts. Arrays are by prompt."""
    total = won + lost
    seen = total > 0
    return model.win_rate(list(won[seen] / total[seen]), level), round(float(total.sum())), int(seen.sum())


def _is_connected(wins: np.ndarray) -> bool:
    near = (wins + wins.T > 0) | np.eye(len(wins), dtype=bool)
    return bool(np.linalg.matrix_power(near.astype(float), len(wins)).all())


def add_column(rows: list[Row], store: Path, tell: Callable[[str], None]) -> None:
    """Give each row the preference of the votes in `<store>/votes`, or the reason why it has none."""
    folder = store / FOLDER
    if not folder.is_dir():
        return
    ballots = read(files_of(folder), rows)
    if ballots.problems:
        tell(f"{len(ballots.problems)} votes in {folder} are not used, such as {ballots.problems[0]}")
    if ballots.votes:
        fill(rows, results(ballots.votes, rows))


def fill(rows: list[Row], found: list[Result]) -> None:
    """Add the cell of the column to each row."""
    metric = metrics()[COLUMN]
    head = {
        "title": metric.title,
        "version": metric.version,
        "higher_is_better": metric.higher_is_better,
        "unit": metric.unit,
        "digits": metric.digits,
    }
    by_run = {(result.group, item.row.run.hash): item for result in found for item in result.standings}
    for row in rows:
        standing = by_run.get(((row.run.model, row.size), row.run.hash))
        body: dict[str, Any] = {"reason": "nobody has voted on its images"}
        if standing:
            value, low, high = standing.score
            body = {"value": value, "low": low, "high": high, "n": standing.votes}
        row.block["metrics"][COLUMN] = cast(MetricScore, head | body | {"identity": digest([head, body])})


def told(ballots: Ballots, most: int = 20) -> list[str]:
    """Return lines on what was not used."""
    lines = ballots.problems[:most]
    if len(ballots.problems) > most:
        lines.append(f"and {len(ballots.problems) - most} more votes that can't be used")
    if ballots.open:
        lines.append(f"rows without a winner: {ballots.open}")
    if ballots.again:
        lines.append(f"votes that their rater gave again, so that the latest counts: {ballots.again}")
    return lines
