"""What the page is made of, as plain data. `answer.json` holds a list of sections, so that the page can be made again
where the runs are not."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sega.errors import RequestError

from ..records.files import read_json

SCHEMA = 1
COSTS = {"seconds": "seconds", "calls": "full-size calls", "memory": "MB of peak memory"}
"""Costs of an image that methods are compared by, with their units."""


@dataclass(frozen=True)
class Quality:
    """A metric that methods are compared by."""

    name: str
    title: str
    unit: str
    higher_is_better: bool
    digits: int


@dataclass(frozen=True)
class Method:
    """A method at one size: its scores, what an image cost, and where it comes from."""

    label: str
    method: str
    n: int  # images
    scores: dict[str, dict[str, Any]]  # value, low, high, n by metric
    cost: dict[str, float | None]  # seconds (median), least, most (10 % and 90 % quantiles), raw calls, calls, memory
    run: str  # hash of the cell
    commit: str  # of the code that began the cell; "" if it was not recorded
    dirty: bool
    command: str  # makes the cell again; "" for images from elsewhere
    image: str = ""  # name of a file in images/, without ".jpg"; "" if there is none
    drawn: bool = True  # False for true renders, which are no method


@dataclass(frozen=True)
class Section:
    """All methods of one model, protocol and size, with the verdicts on every two of them."""

    model: str
    protocol: str
    size: str
    store: str  # which of several stores; "" if there is one
    scale: float | None
    level: float  # of the intervals
    is_embedded: bool
    busy: bool  # whether other work ran while seconds were measured
    cost: str  # key of COSTS; "" if no cost was recorded
    prompt: str  # of the images
    quality: tuple[Quality, ...]
    methods: tuple[Method, ...]
    least: int  # images in common that a verdict needs
    # "i j" with i < j: n (images in common), equal, and by metric "better", "worse" or "" of i, with enough images only
    verdicts: dict[str, dict[str, Any]]

    @property
    def title(self) -> str:
        """Name of the section: `tiny at 384x384, 2x the training side`, and the store if there are several."""
        of = f", {self.scale:.3g}x the training side" if self.scale else ""
        return f"{self.model} at {self.size}{of}" + (f" ({self.store})" if self.store else "")

    @property
    def ranked(self) -> list[int]:
        """Indices of the methods, without true renders."""
        return [k for k, method in enumerate(self.methods) if method.drawn]

    @property
    def n(self) -> int:
        """Largest number of images that two methods share."""
        return max((pair["n"] for pair in self.verdicts.values()), default=0)

    @property
    def decides(self) -> bool:
        """Whether any two methods share enough images for a verdict."""
        return self.n >= self.least

    def verdict(self, a: int, b: int, metric: str) -> str | None:
        """ "better", "worse" or "" (not distinguishable) of a against b; None if they can't be compared."""
        pair = self.verdicts.get(f"{min(a, b)} {max(a, b)}")
        if pair is None or metric not in pair["by"]:
            return None
        found = pair["by"][metric]
        return found if a < b else {"better": "worse", "worse": "better"}.get(found, found)

    def against(self, a: int, b: int) -> dict[str, str]:
        """Verdicts of a against b by metric, of those that can be compared."""
        found = {q.name: self.verdict(a, b, q.name) for q in self.quality}
        return {name: verdict for name, verdict in found.items() if verdict is not None}

    def is_equal(self, a: int, b: int) -> bool:
        """Whether two methods have the same values everywhere."""
        return bool(self.verdicts.get(f"{min(a, b)} {max(a, b)}", {}).get("equal"))

    def cost_of(self, k: int) -> float | None:
        """Cost of an image of a method, in the unit of `COSTS`."""
        return self.methods[k].cost.get(self.cost) if self.cost else None


@dataclass(frozen=True)
class Answer:
    """The content of the page."""

    sections: tuple[Section, ...] = ()

    @property
    def in_order(self) -> list[Section]:
        """The sections, those first that decide something, and of these the sizes above the training size."""
        return sorted(self.sections, key=lambda section: (not section.decides, (section.scale or 2) <= 1))

    def plain(self) -> dict[str, Any]:
        """The content as plain data."""
        return {"schema": SCHEMA, **asdict(self)}


def read(path: Path) -> Answer:
    """Read `answer.json`. A file of another version or a damaged one raises RequestError."""
    found = read_json(path)
    try:
        if found["schema"] != SCHEMA:
            raise RequestError(f"{path} is of another version; make it again from a store of runs")
        sections = tuple(section_of(item) for item in found["sections"])
        return Answer(sections)
    except (KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} is damaged; make it again from a store of runs") from error


def section_of(item: dict[str, Any]) -> Section:
    """Return a section from plain data."""
    own = {key.name: item[key.name] for key in fields(Section)}
    own["quality"] = tuple(Quality(**quality) for quality in item["quality"])
    own["methods"] = tuple(Method(**method) for method in item["methods"])
    return Section(**own)
