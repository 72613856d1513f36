"""Read files of votes and find the runs that each vote compares.

A file is what `vote.html` of the gallery saves (JSON or CSV), or a plain CSV, TSV, JSON or JSONL of `prompt_id, seed,
method_a, method_b, winner, rater`. `winner` is `a`, `b`, `tie`, or the name of one of the two methods. `model`, `size`
(WxH), `run_a`, `run_b` (hashes of runs) and `time` are optional.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sega.errors import RequestError, shortened
from sega.run.prompts import read_text
from sega.store.rows import read_rows

from ..records.files import read_json
from ..records.rows import Row
from ..records.runs import Key

KINDS = (".json", ".jsonl", ".csv", ".tsv")
WINNERS = {"a": 1.0, "method_a": 1.0, "b": 0.0, "method_b": 0.0, "tie": 0.5, "equal": 0.5, "draw": 0.5}
Group = tuple[str, str]
"""(model, size): images of one group are compared."""


@dataclass(frozen=True)
class Vote:
    """One comparison of the images of two runs by one rater. `a` is before `b` in the order of their hashes."""

    group: Group
    a: str  # hash of the run
    b: str
    key: Key  # (prompt id, seed)
    rater: str
    score: float  # 1 a is better, 0 b is better, 0.5 equal


@dataclass
class Ballots:
    """Votes that were read, and what could not be used."""

    votes: list[Vote] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    open: int = 0  # rows without a winner
    again: int = 0  # earlier votes of the same rater on the same pair, which do not count


def files_of(path: Path) -> list[Path]:
    """Return a file, or the files of votes in a folder."""
    return sorted(p for p in path.iterdir() if p.suffix in KINDS and p.is_file()) if path.is_dir() else [path]


def read(files: list[Path], rows: list[Row]) -> Ballots:
    """Read the votes of files on images of `rows`. A file or row that can't be used becomes a problem.

    The latest vote of a rater on a pair counts. One who sees a pair in both orders, as a judge does against the bias of
    places, has one vote: the mean of both.
    """
    found, book = Ballots(), _Book(rows)
    latest: dict[tuple[Vote, bool], tuple[str, float]] = {}  # by vote without its score, and order
    for path in files:
        try:
            table = list(_table(path))
        except RequestError as error:
            found.problems.append(str(error))
            continue
        for number, row in enumerate(table, 1):
            if not isinstance(row, dict):
                found.problems.append(f"{path.name} vote {number}: is not an object")
            elif _text(row, "winner") == "":
                found.open += 1
            else:
                try:
                    vote, is_turned = book.find(row, path.stem)
                except RequestError as error:
                    found.problems.append(f"{path.name} vote {number}: {error}")
                    continue
                place, time = (replace(vote, score=0), is_turned), _text(row, "time")
                found.again += place in latest
                if place not in latest or time >= latest[place][0]:
                    latest[place] = time, vote.score
    scores: dict[Vote, list[float]] = {}
    for (vote, _), (_, score) in latest.items():
        scores.setdefault(vote, []).append(score)
    found.votes = [replace(vote, score=sum(both) / len(both)) for vote, both in scores.items()]
    return found


def _table(path: Path) -> Iterator[Any]:
    """Yield the rows of a file; those of a page have its rater."""
    if path.suffix in (".csv", ".tsv"):
        text = io.StringIO(read_text(path, str(path)), newline="")
        try:
            yield from csv.DictReader(text, delimiter="\t" if path.suffix == ".tsv" else ",")
        except csv.Error as error:
            raise RequestError(f"{path} can't be read: {error}") from error
    elif path.suffix == ".jsonl":
        yield from read_rows(path)[0]
    elif path.suffix == ".json":
        content = read_json(path)
        rows = content.get("votes") if isinstance(content, dict) else content
        if not isinstance(rows, list):
            raise RequestError(f"{path} has no list of votes")
        about = {"rater": content["rater"]} if isinstance(content, dict) and "rater" in content else {}
        yield from ({**about, **row} if isinstance(row, dict) else row for row in rows)
    else:
        raise RequestError(f"{path} must end in {', '.join(KINDS)}")


def _text(row: dict[str, Any], key: str) -> str:
    """Return a value as text without the space around it, "" if there is none."""
    value = row.get(key)
    return "" if value is None else str(value).strip()


class _Book:
    """Finds runs by group and by hash, label or method."""

    def __init__(self, rows: list[Row]):
        self.groups: dict[Group, dict[str, Row]] = {}  # by the hash of the run
        for row in rows:
            if row.run.width:
                self.groups.setdefault((row.run.model, row.size), {}).setdefault(row.run.hash, row)
        self.keys = {(group, run): set(row.images) for group, held in self.groups.items() for run, row in held.items()}

    def find(self, row: dict[str, Any], stem: str) -> tuple[Vote, bool]:
        """Return the vote of a row, and whether its a is our b. Raises RequestError if it fits no pair, or several."""
        try:
            key = _text(row, "prompt_id"), int(_text(row, "seed") or 0)
        except ValueError:
            raise RequestError(f"seed {shortened(row['seed'])} is not a whole number") from None
        fitting = []
        for group in self.groups:
            if _text(row, "model") in ("", group[0]) and _text(row, "size") in ("", group[1]):
                a, b = (self._run(group, row, side, key) for side in "ab")
                if a and b and a != b:
                    fitting.append((group, a, b))
        names = [_text(row, f"method_{side}") or _text(row, f"run_{side}") for side in "ab"]
        what = f"{shortened(names[0])} and {shortened(names[1])} of prompt {shortened(key[0])}, seed {key[1]}"
        if not fitting:
            raise RequestError(f"{what} are not two scored images of this store")
        if len(fitting) > 1:
            raise RequestError(f"{what} are there at several models or sizes; give model and size")
        group, a, b = fitting[0]
        score = self._score(group, row, a, b)
        rater = _text(row, "rater") or stem
        if a < b:
            return Vote(group, a, b, key, rater, score), False
        return Vote(group, b, a, key, rater, 1 - score), True

    def _run(self, group: Group, row: dict[str, Any], side: str, key: Key) -> str:
        """Return the hash of the run of one side that has the image, "" if there is none."""
        held, run, name = self.groups[group], _text(row, f"run_{side}"), _text(row, f"method_{side}")
        if run:
            found = [run] if run in held else []
        else:
            found = [item for item, other in held.items() if other.label == name]
            found = found or [item for item, other in held.items() if other.run.method == name]
        return found[0] if len(found) == 1 and key in self.keys[group, found[0]] else ""

    def _score(self, group: Group, row: dict[str, Any], a: str, b: str) -> float:
        winner = _text(row, "winner")
        for run, side, score in ((a, "a", 1.0), (b, "b", 0.0)):
            other = self.groups[group][run]
            if winner in (_text(row, f"method_{side}"), run, other.label):
                return score
        if winner.lower() not in WINNERS:
            raise RequestError(f"winner {shortened(winner)} is none of a, b, tie and the two methods")
        return WINNERS[winner.lower()]


def counts(votes: list[Vote]) -> Counter[str]:
    """Return the number of votes of each rater."""
    return Counter(vote.rater for vote in votes)
