"""What the page is made of, as plain data. `answers.json` holds it, so that the page can be made where no runs are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sega.errors import RequestError

from ..answer.types import Quality, Section, section_of
from ..records.files import read_json

SCHEMA = 1


def rounded(value: float | None) -> float | None:
    """Return a number with the digits that the record has."""
    return None if value is None else float(f"{value:.6g}")


@dataclass(frozen=True)
class Effect:
    """A difference of two entries in one metric: its interval, its corrected p, and the verdict on the first."""

    label: str
    base: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int  # images in common
    p: float | None
    corrected: float | None  # for all differences of its question, size and metric
    verdict: str  # better | worse | differs | ""
    equal: bool  # whether all values are the same

    @property
    def is_lost(self) -> bool:
        """Whether the interval leaves out 0, but there is no verdict after the correction."""
        known = self.low is not None and self.high is not None
        return not self.verdict and not self.equal and known and not self.low <= 0 <= self.high  # type: ignore[operator]


@dataclass(frozen=True)
class Finding:
    """What a question comes to at one place."""

    place: str
    least: int  # images in common that a verdict needs
    effects: tuple[Effect, ...]

    def of(self, label: str, base: str) -> dict[str, Effect]:
        """Return the effects of a pair by metric."""
        return {effect.metric: effect for effect in self.effects if (effect.label, effect.base) == (label, base)}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs that were compared, in the order of the plan."""
        return list(dict.fromkeys((effect.label, effect.base) for effect in self.effects))


@dataclass(frozen=True)
class Asked:
    """A question with its findings."""

    name: str
    title: str
    about: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Margin:
    """A winner of the search against all methods of the field in one metric.

    `better` and `worse` count the verdicts against methods, corrected for all winners and methods. `closest` is the
    method that it leads by least, or that leads it most. `p` is that of the hypothesis that it is not better than every
    method: the largest one of its comparisons, and 1 where a method is as good; `corrected` is for all winners (Holm).
    """

    label: str
    metric: str
    better: int
    worse: int
    field: int
    closest: Effect
    p: float
    corrected: float


@dataclass(frozen=True)
class Spot:
    """A place with its facts. `scale` is its longer side over the training side.

    One that `follows` another goes on from its captions; `parts` are the names of two places taken together.
    """

    name: str
    model: str
    size: str
    scale: float | None
    n: int  # captions that every entry has
    level: float
    quality: tuple[Quality, ...]
    margins: tuple[Margin, ...]
    field: Section | None  # the published methods
    follows: str | None = None
    first: int = 0  # captions of the plan before its own
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answers:
    """The content of the page."""

    captions: str  # which captions and noise
    is_embedded: bool
    spots: tuple[Spot, ...]
    questions: tuple[Asked, ...]
    winners: dict[str, str]  # label -> words of run.py
    both: tuple[Margin, ...]  # of the two models together, where the search found something
    paired: tuple[str, str] | None  # names of their places

    def spot(self, name: str) -> Spot:
        """Return the place of this name."""
        return next(spot for spot in self.spots if spot.name == name)

    def plain(self) -> dict[str, Any]:
        """The content as plain data."""
        return {"schema": SCHEMA, **asdict(self)}


def read(path: Path) -> Answers:
    """Read `answers.json`. A file of another version or a damaged one raises RequestError."""
    found = read_json(path)
    try:
        if found["schema"] != SCHEMA:
            raise RequestError(f"{path} is of another version; make it again from a store of runs")
        return Answers(
            found["captions"],
            found["is_embedded"],
            tuple(_spot(item) for item in found["spots"]),
            tuple(
                Asked(item["name"], item["title"], item["about"], tuple(map(_finding, item["findings"])))
                for item in found["questions"]
            ),
            found["winners"],
            tuple(map(_margin, found["both"])),
            tuple(found["paired"]) if found["paired"] else None,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RequestError(f"{path} is damaged; make it again from a store of runs") from error


def _finding(item: dict[str, Any]) -> Finding:
    return Finding(item["place"], item["least"], tuple(Effect(**effect) for effect in item["effects"]))


def _margin(item: dict[str, Any]) -> Margin:
    return Margin(**item | {"closest": Effect(**item["closest"])})


def _spot(item: dict[str, Any]) -> Spot:
    parts = {
        "quality": tuple(Quality(**quality) for quality in item["quality"]),
        "margins": tuple(map(_margin, item["margins"])),
        "field": section_of(item["field"]) if item["field"] else None,
        "parts": tuple(item.get("parts", ())),
    }
    return Spot(**item | parts)
