"""Read the plan of the confirmatory test: its captions, its entries, its questions, and the order of the work."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near
from sega.home import CONF

PLAN = CONF / "verdict" / "search.yaml"
WINNERS = "winners"
"""Group of the entries that the search found."""


def file_name(place: str) -> str:
    """The name of a place in names of files and folders."""
    return place.replace(" ", "-").replace(":", "x")


@dataclass(frozen=True)
class Entry:
    """Something that is compared: its label, its group, and the words of `run.py` that make it."""

    label: str
    group: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A model at a size, with the groups of entries that are made there."""

    name: str
    model: str
    res: str
    groups: tuple[str, ...]
    made: str | None = None  # a store of scored runs that were made before, on other captions; it is only read
    entries: tuple[str, ...] = ()  # labels of entries beyond those of its groups
    words: tuple[str, ...] = ()  # of every entry there; they count more than those of the plan
    follows: str | None = None  # name of the place that has the captions before its own
    first: int = 0  # captions of the plan before its own: those of the place it follows

    def store(self, top: Path) -> Path:
        """Its store, in the folder of all: distances can be compared only of the same captions, so each has its own."""
        return Path(self.made) if self.made else top / file_name(self.name)


@dataclass(frozen=True)
class Question:
    """A question, as differences of two entries each."""

    name: str
    title: str
    about: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Plan:
    """The whole test. Entries and places by their labels."""

    captions: tuple[str, ...]  # () where a file has to be given
    about: str  # which captions these are
    seeds: tuple[int, ...]
    common: tuple[str, ...]
    metrics: tuple[str, ...]
    entries: dict[str, Entry]
    questions: tuple[Question, ...]
    places: dict[str, Place]
    rounds: tuple[tuple[str, int], ...]  # place, and how far it has come in the captions after the round

    def at(self, place: Place) -> list[Entry]:
        """Return the entries of a place."""
        return [entry for entry in self.entries.values() if entry.group in place.groups or entry.label in place.entries]

    def group(self, name: str) -> list[Entry]:
        """Return the entries of a group."""
        return [entry for entry in self.entries.values() if entry.group == name]

    def count(self, place: Place) -> int:
        """Return the captions that a place has in the end."""
        return max((count - place.first for name, count in self.rounds if name == place.name), default=0)

    def words(self, entry: Entry, place: Place) -> list[str]:
        """Return the words of `run.py` for an entry at a place, without its captions and its store."""
        seeds = f"seeds=[{','.join(map(str, self.seeds))}]"
        common = _joined(self.common, place.words)
        return [f"model={place.model}", *common, *entry.words, f"res={place.res}", seeds]


def read_plan(path: Path = PLAN, winners: Sequence[Path] = (), file: Path | None = None) -> Plan:
    """Read a plan, and the entries that searches found. Raises RequestError for what does not fit together.

    `file` has the captions of a plan that names none, or others in their place.
    """
    found = _yaml(path)
    try:
        common = tuple(found["common"])
        entries = [entry for group, listed in found["entries"].items() for entry in _entries(group, listed)]
        entries += [entry for other in winners for entry in _winners(other, common)]
        by_label = {entry.label: entry for entry in entries}
        if len(by_label) < len(entries):
            twice = [entry.label for entry in entries if by_label[entry.label] is not entry]
            raise RequestError(f"{path}: two entries have the label {twice[0]!r}")
        rounds = tuple((str(place), int(count)) for place, count in found["rounds"])
        plan = Plan(
            *_captions(found["captions"], file),
            tuple(found["seeds"]),
            common,
            tuple(found["metrics"]),
            by_label,
            tuple(
                Question(name, item["title"], item["about"], tuple((a, b) for a, b in item["pairs"]))
                for name, item in found["questions"].items()
            ),
            {str(name): _place(str(name), item, rounds) for name, item in found["places"].items()},
            rounds,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RequestError(f"{path} is no plan of a test: {type(error).__name__} {error}") from error
    _check(plan, path)
    return plan


def captions(seed: int, count: int, apart: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Return the first `count` different captions of a seed that are not among the [seed, count] of `apart`."""
    from sega.embedded.captions import captions as of_seed

    used = {caption for other, number in apart for caption in of_seed(other, number)}
    fresh = [caption for caption in dict.fromkeys(of_seed(seed, 2 * count + 64)) if caption not in used]
    if len(fresh) < count:
        raise RequestError(f"prompts.seed={seed} has only {len(fresh)} captions that are used nowhere else")
    return tuple(fresh[:count])


def _captions(found: dict[str, Any] | None, file: Path | None) -> tuple[tuple[str, ...], str]:
    """Return the captions of a plan, and which they are."""
    if file is None:
        fresh = captions(**found) if found else ()
        return fresh, "captions of the embedded world that no table and no search uses"
    from sega.run.prompts import load_prompts

    words = {"seed": 0, "count": 0, "limit": None, "source": "file", "path": str(file), "text": None, "items": []}
    own = tuple(prompt.text for prompt in load_prompts(words))  # type: ignore[arg-type]
    return own, f"captions of {file.name}"


def _yaml(path: Path) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        return OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError as error:
        raise RequestError(f"no plan at {path}") from error
    except (YAMLError, OmegaConfBaseException, OSError) as error:
        raise RequestError(f"{path} can't be read: {str(error).splitlines()[0]}") from error


def _entries(group: str, listed: Any) -> list[Entry]:
    """Entries of a group: a list of methods, or words by label."""
    if isinstance(listed, dict):
        return [Entry(str(label), group, tuple(_words(words))) for label, words in listed.items()]
    return [Entry(str(name), group, (f"method={name}",)) for name in listed]


def _place(name: str, item: dict[str, Any], rounds: Sequence[tuple[str, int]]) -> Place:
    follows = item.get("follows")
    return Place(
        name,
        item["model"],
        str(item["res"]),
        tuple(item["groups"]),
        item.get("made"),
        tuple(item.get("entries", ())),
        tuple(_words(item.get("words", ()))),
        follows,
        max((count for other, count in rounds if other == follows), default=0),
    )


def _winners(path: Path, common: Sequence[str]) -> list[Entry]:
    """Entries that a search wrote: `label` and `overrides` of each under `winners`, and what was `fixed` for all.

    A plan says itself what belongs to a place, to its captions or to all entries.
    """
    found = _yaml(path)
    if not isinstance(found, dict):
        found = {WINNERS: found}
    given = {word.partition("=")[0] for word in common}
    try:
        fixed = [word for word in _words(found.get("fixed") or {}) if not _is_of_plan(word, given)]
        return [
            Entry(str(item["label"]), WINNERS, tuple(_joined(fixed, _words(item["overrides"]))))
            for item in found[WINNERS]
        ]
    except (KeyError, TypeError) as error:
        raise RequestError(f"{path} must have a list `{WINNERS}` of entries with `label` and `overrides`") from error


def _is_of_plan(word: str, given: set[str]) -> bool:
    key = word.partition("=")[0]
    return key in given | {"model", "res", "seeds"} or key.split(".")[0] == "prompts"


def _joined(fixed: Sequence[str], own: Sequence[str]) -> list[str]:
    """Words of which the own ones count more."""
    return list({word.partition("=")[0]: word for word in (*fixed, *own)}.values())


def _words(words: Any) -> list[str]:
    """Words of `run.py`, written as a line, as a list, or as values by key."""
    if isinstance(words, dict):
        return [f"{key}={_value(value)}" for key, value in words.items()]
    return shlex.split(words) if isinstance(words, str) else [str(word) for word in words]


def _value(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _check(plan: Plan, path: Path) -> None:
    for label in (label for question in plan.questions for pair in question.pairs for label in pair):
        if label not in plan.entries:
            raise RequestError(f"{path}: a question asks for {label!r}, which is no entry{near(label, plan.entries)}")
    known = {entry.group for entry in plan.entries.values()} | {WINNERS}
    for group in (group for place in plan.places.values() for group in place.groups):
        if group not in known:
            raise RequestError(f"{path}: a place has the group {group!r}, which is none of the entries")
    for label in (label for place in plan.places.values() for label in place.entries):
        if label not in plan.entries:
            raise RequestError(f"{path}: a place has {label!r}, which is no entry{near(label, plan.entries)}")
    for place in plan.places.values():
        if place.follows is not None and place.follows not in plan.places:
            near_by = near(place.follows, plan.places)
            raise RequestError(f"{path}: {place.name} follows {place.follows!r}, which is no place{near_by}")
    for name, count in plan.rounds:
        if name not in plan.places:
            raise RequestError(f"{path}: a round is at {name!r}, which is no place{near(name, plan.places)}")
        if count <= (first := plan.places[name].first):
            raise RequestError(f"{path}: a round at {name!r} ends at caption {count}, and the place begins at {first}")
        if not 0 < count <= len(plan.captions or range(count)):
            raise RequestError(f"{path}: a round has {count} captions, of {len(plan.captions)}")
