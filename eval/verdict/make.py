"""Make and score the images of a plan with several processes, round by round, within a time limit.

A process keeps its pipeline open over the entries of a model. A round is begun only if it will end in time, so that
after it every entry of its place has the same captions. What is there is not made again, and other machines on the same
store share the work by its claims.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from sega.errors import RequestError

from .plan import Place, Plan, file_name
from .workers import Workers

CHUNK = 16
"""Captions of an entry that a process makes at a time."""


@dataclass(frozen=True)
class Setting:
    """Where the work is done."""

    store: Path
    device: str
    workers: int
    end: float  # of time.monotonic, after which nothing is begun
    cache: Path
    images: Path | None = None  # folder of references, for models whose captions can't be rendered
    first: int = 0  # captions before this one are not made: another machine did, and their images are not here

    def captions(self, place: Place | None = None) -> Path:
        """File of the captions, beside the store; a place that leaves out the first ones has its own."""
        return self.store.parent / f"captions{f'-{file_name(place.name)}' if place and place.first else ''}.txt"

    @property
    def logs(self) -> Path:
        """Folder of what the processes print, beside the store."""
        return self.store.parent / "logs"


def lines(plan: Plan, setting: Setting) -> dict[tuple[str, str], list[str]]:
    """Return the words of `run.py` by (place, label) for the whole test."""
    return {
        (place.name, entry.label): [
            *plan.words(entry, place),
            f"prompts.path={setting.captions(place)}",
            f"device={setting.device}",
            f"store={place.store(setting.store)}",
            f"prompts.limit={plan.count(place)}",
        ]
        for place in plan.places.values()
        for entry in plan.at(place)
    }


def cost(plan: Plan, card: str) -> list[str]:
    """Return a line on each place and their sum: images, operations, and hours on a card that the dry run knows."""
    from sega.formulas.work import Work
    from sega.loading.folder import read_parts
    from sega.run.cost import image_cost, machine_of
    from sega.run.dryrun import published
    from sega.run.quantities import amount, clock
    from sega.run.request import read_request

    found, total, spent, images = [], 0.0, 0.0, 0
    for place in plan.places.values():
        entries, count = plan.at(place), plan.count(place)
        common = ["prompts.text=a", "dry_run=true", f"device={card}"]
        try:
            cells = [read_request([*plan.words(entry, place), *common]).cells[0] for entry in entries]
        except RequestError as error:  # a model that is not here
            found.append(f"{place.name}: left out: {error}")
            continue
        parts = read_parts(cells[0].weights.folder) if cells[0].weights else published(cells[0].model)
        if "transformer" not in parts:
            found.append(f"{place.name}: left out: there are no weights of {place.model} here")
            continue
        works = [image_cost(cell, parts).work or Work() for cell in cells]
        operations = count * sum(work.operations for work in works)
        seconds = count * sum(machine_of(cell).seconds(work) for cell, work in zip(cells, works, strict=True))
        each = f"{len(entries)} entries x {count} captions"
        found.append(f"{place.name}: {each}, {amount(operations)}, {clock(seconds)} on an {card.upper()}")
        total, spent, images = total + operations, spent + seconds, images + count * len(entries)
    return [*found, f"{images} images: {amount(total)}, {clock(spent)} on an {card.upper()}; nothing was loaded"]


def write_captions(plan: Plan, setting: Setting) -> None:
    """Write the captions, a line each. Raises RequestError without any, or where the store was begun with others."""
    if not plan.captions:
        raise RequestError("the plan names no captions; give captions=<a .txt, .jsonl, .csv or .tsv file>")
    setting.store.parent.mkdir(parents=True, exist_ok=True)
    firsts = {setting.captions(): 0} | {setting.captions(place): place.first for place in plan.places.values()}
    for path, first in firsts.items():
        text = "".join(f"{caption}\n" for caption in plan.captions[first:])
        if path.is_file() and path.read_text() != text:
            raise RequestError(f"{path} has other captions than the plan; give another store")
        path.write_text(text)


def make(plan: Plan, setting: Setting) -> int:
    """Make the images, round after round. Returns the number of parts that failed."""
    from sega.loading.devices import slow

    write_captions(plan, setting)
    words, pace, failed, said = lines(plan, setting), Pace(), 0, set[str]()
    there = {name: max(setting.first, place.first) for name, place in plan.places.items()}  # captions left out or made
    rounds = [(name, count) for name, count in plan.rounds if count > there[name]]
    if not rounds:
        print(f"nothing to make: no round has more than {setting.first} captions (first={setting.first})", flush=True)
    with Workers(setting.workers, setting.logs) as workers:
        for name, count in rounds:
            place, began = plan.places[name], time.monotonic()
            entries = [words[name, entry.label] for entry in plan.at(place)]
            try:
                pixels = math.prod(_cell(tuple(entries[0])).request.size)
            except RequestError as error:  # a model that is not here
                print(f"{name}: left out: {error}", flush=True)
                continue
            if (line := slow(_cell(tuple(entries[0])).model["dtype"], setting.device)) and line not in said:
                said.add(line)  # here, since processes say it in files, and a night may hang on it
                print(f"warning: {line}", flush=True)
            images = (count - there[name]) * len(entries)
            if began + pace.seconds(name, pixels, images) > setting.end:
                print(f"{name}: left out: there is no time for {count} captions", flush=True)
                continue
            start, stop = there[name] - place.first, count - place.first  # in the captions of the place
            shares = [(first, min(first + CHUNK, stop)) for first in range(start, stop, CHUNK)]
            failed += workers.run(_make, [(own, *share) for share in shares for own in entries], setting.end)
            if time.monotonic() > setting.end:
                print(f"{name}: the time ended within the round to {count} captions", flush=True)
                break
            seconds, there[name] = time.monotonic() - began, count
            pace.learn(name, pixels, images, seconds)
            before = f", the first {place.first} at {place.follows}" if place.first else ""
            made = f"{count} captions of {len(entries)} entries{before}"
            print(f"{name}: {made}, {images / seconds:.2f} images/s", flush=True)
    return failed


def score(plan: Plan, setting: Setting) -> int:
    """Score every cell of the store; one of each place first, so that references are made once. Returns failures."""
    own = (place for place in plan.places.values() if not place.made)
    found = (sorted(place.store(setting.store).glob("*/*/*/*/run.json")) for place in own)
    places = [[record.parent for record in own] for own in found if own]
    words = [f"cache={setting.cache}", f"device={setting.device}", f"metrics=[{','.join(plan.metrics)}]", "workers=0"]
    words += [f"reference.path={setting.images}"] if setting.images else []
    failed = 0
    with Workers(setting.workers, setting.logs) as workers:
        for folders in ([own[0] for own in places], [path for own in places for path in own[1:]]):
            failed += workers.run(_score, [([f"path={folder}", *words],) for folder in folders], setting.end)
    return failed


def references(plan: Plan, setting: Setting) -> int:
    """Render and measure the references of every round that `cache` does not have. Returns how many failed.

    A device that is lent for minutes then waits for none of them. Raises RequestError for captions of another world.
    """
    from sega.embedded import world

    write_captions(plan, setting)
    for caption in plan.captions:
        world.parse_caption(caption)
    words, sets = lines(plan, setting), {}  # two models of a training size have the same references
    for name, count in plan.rounds:
        try:
            cell = _cell(tuple(words[name, plan.at(plan.places[name])[0].label]))
        except RequestError as error:  # a model that is not here
            print(f"{name}: left out: {error}", flush=True)
            continue
        own = plan.captions[plan.places[name].first : count]
        sets[own, cell.request.size, cell.model["native"], cell.config["eval"]["name"]] = None
    parts = [(*own, plan.metrics, str(setting.cache)) for own in sets]
    with Workers(setting.workers, setting.logs) as workers:
        return workers.run(_references, parts, setting.end)


class Pace:
    """Seconds that an image takes at a place, from the rounds before; elsewhere by the pixels."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[float, int]] = {}  # by place: seconds, pixels

    def learn(self, place: str, pixels: int, images: int, seconds: float) -> None:
        """Remember a round. One that took no time, because its images were there, says nothing."""
        if images and seconds / images > 1e-3:
            self.known[place] = seconds / images, pixels

    def seconds(self, place: str, pixels: int, images: int) -> float:
        """Return what a round will take; 0 as long as nothing is known."""
        guesses = [each * pixels / other for each, other in self.known.values()]
        return images * (self.known[place][0] if place in self.known else max(guesses, default=0.0))


@cache
def _cell(words: tuple[str, ...]) -> Any:
    from sega.run.request import read_request

    return read_request(list(words)).cells[0]


@cache
def _session() -> Any:
    from sega.run.worker import Session

    return Session(plain=True)


def _make(words: list[str], first: int, last: int) -> int:
    """Make the images of an entry for some captions. Returns the exit status."""
    from sega.run.cli import run_cell

    cell = _cell(tuple(words))
    return run_cell(replace(cell, prompts=cell.prompts[first:last]), _session(), "verdict")


def _score(words: list[str]) -> int:
    """Score a cell. Returns the exit status."""
    from ..scoring.command import evaluate

    return evaluate(words)


def _references(
    captions: tuple[str, ...], size: tuple[int, int], native: int, protocol: str, names: tuple[str, ...], cache: str
) -> int:
    """Make the references of some captions at a size, unless they are there. Returns the exit status."""
    from ..metrics.registry import metrics
    from ..protocols import load_protocol
    from ..scoring import references
    from ..scoring.collect import resolve

    config = load_protocol(protocol, [f"metrics=[{','.join(names)}]", "device=cpu", "workers=0"])
    setting = resolve(list(dict.fromkeys(metrics()[name].measure for name in names)), config, native)
    references.make(references.plan_world(captions, size, setting), setting, Path(cache))
    print(f"references of {len(captions)} captions at {size[0]}x{size[1]}", flush=True)
    return 0
