"""Run the confirmatory test of a search, and write the page of its answers: `python -m eval.verdict`."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError, near
from sega.home import command_line

from .. import options
from ..records.files import write_text
from . import make, pack
from .plan import PLAN, Plan, read_plan

if TYPE_CHECKING:
    from .rows import Rows
    from .types import Answers

HELP = """usage: python -m eval.verdict [references|make|score|sheets|page|pack|lines|cost ...] [key=value ...]

The test that makes a search believable: published methods, ablations of SEGA and the winners of the search on captions
and noise that neither the search nor a table has seen, with the verdicts corrected. The plan says what is compared.
Without a step it writes the page.

  references  render what images are compared with, for every round, so that `score` need not: before a GPU is lent
  make    make the images, round after round, in `workers` processes
  score   score them
  sheets  contact sheets of the first captions: all entries side by side
  page    index.html and answers.json, from the records
  pack    archives of the records without images, into `pack`, to read them on another machine
  lines   print the commands that make the same images
  cost    print what the images cost; nothing is loaded

  python -m eval.verdict make score sheets page device=cuda workers=8 minutes=8
  python -m eval.verdict lines places=2x

  plan      conf/verdict/search.yaml   entries, questions, places and rounds
  winners   -                          winners.yaml of a search (several: commas between them)
  captions  -                          file of captions, for a plan that names none
  images    -                          folder of references, for models whose captions can't be rendered
  store     results/search/test/runs   folder of the images, a store for each place
  cache     results/cache              folder where rendered references are stored
  out       results/search             folder of the page
  pack      results/search/pack        folder of the archives
  features  true                       false: archives without features, from which distances can't be compared anew
  device    auto                       auto | cpu | cuda | cuda:N; for `cost` a card (h100) instead
  workers   1                          processes; more than one share a GPU, or the cores
  first     0                          `make` leaves out the captions before this one: another machine made them, and
                                       their images are not here
  minutes   -                          for each step that makes or scores; no round is begun that would take longer
  places    -                          only these places of the plan (several: commas between them)
  set       -                          words for every entry, such as set='steps=4'

Places without scored runs in the store stay as answers.json in `out` has them, if it is of the same captions, noise and
winners; so a page grows on several machines."""

KEYS: dict[str, Any] = {
    "plan": str(PLAN),
    "winners": None,
    "captions": None,
    "images": None,
    "store": "results/search/test/runs",
    "cache": "results/cache",
    "out": "results/search",
    "pack": "results/search/pack",
    "features": "true",
    "device": "auto",
    "workers": "1",
    "first": "0",
    "minutes": None,
    "places": None,
    "set": None,
}


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return options.command(words, lambda: HELP, verdict)


def verdict(words: list[str]) -> int:
    """Take the steps that the words name, one after the other."""
    steps = [word for word in words if "=" not in word] or ["page"]
    for step in steps:
        if step not in STEPS:
            raise RequestError(f"unknown step {step}{near(step, STEPS)}")
    found = options.parse([word for word in words if "=" in word], KEYS)
    plan = _plan(found)
    status = 0
    for step in steps:
        status = max(status, STEPS[step](plan, found))
    return status


def _plan(found: dict[str, Any]) -> Plan:
    winners = [path for name in _names(found["winners"]) if (path := options.existing(name, "file of winners"))]
    plan = read_plan(Path(found["plan"]), winners, options.existing(found["captions"], "file of captions"))
    if found["set"]:
        plan = replace(plan, common=(*plan.common, *shlex.split(found["set"])))
    if found["places"]:
        names = _names(found["places"])
        for name in names:
            if name not in plan.places:
                raise RequestError(f"places={name} is not in the plan{near(name, plan.places)}")
        places = {name: place for name, place in plan.places.items() if name in names}
        plan = replace(plan, places=places, rounds=tuple(item for item in plan.rounds if item[0] in names))
    return plan


def _names(given: str | None) -> list[str]:
    return given.split(",") if given else []


def _number(found: dict[str, Any], key: str) -> float:
    try:
        return float(found[key])
    except ValueError as error:
        raise RequestError(f"{key}={found[key]} must be a number") from error


def _setting(found: dict[str, Any]) -> make.Setting:
    workers = options.whole_number(found, "workers")
    end = time.monotonic() + 60 * _number(found, "minutes") if found["minutes"] else math.inf
    images = options.existing(found["images"], "folder of references")
    first = options.whole_number(found, "first", 0)
    return make.Setting(Path(found["store"]), found["device"], workers, end, Path(found["cache"]), images, first)


def _make(plan: Plan, found: dict[str, Any]) -> int:
    return int(make.make(plan, _setting(found)) > 0)


def _references(plan: Plan, found: dict[str, Any]) -> int:
    return int(make.references(plan, _setting(found)) > 0)


def _score(plan: Plan, found: dict[str, Any]) -> int:
    return int(make.score(plan, _setting(found)) > 0)


def _lines(plan: Plan, found: dict[str, Any]) -> int:
    setting = _setting(found)
    make.write_captions(plan, setting)
    for line in make.lines(plan, setting).values():
        print(f"{command_line('run')} {shlex.join(line)}")
    return 0


def _cost(plan: Plan, found: dict[str, Any]) -> int:
    for line in make.cost(plan, "h100" if found["device"] == "auto" else found["device"]):
        print(line)
    return 0


def _rows(plan: Plan, found: dict[str, Any]) -> Rows:
    from .rows import rows_of

    return rows_of(plan, Path(found["store"]), Path(found["cache"]))


def _page(plan: Plan, found: dict[str, Any]) -> int:
    from .facts import facts, with_kept
    from .types import read

    out = Path(found["out"])
    record = out / "answers.json"
    rows = _rows(plan, found)
    own = [rows[name] for name, place in plan.places.items() if not place.made]  # a store from before is no test
    if any(own):
        content = facts(plan, rows, Path(found["cache"]))
        if record.is_file():
            content, kept = with_kept(content, read(record))
            if kept:
                print(f"not in {found['store']}, and kept from {record}: {', '.join(kept)}", file=sys.stderr)
    elif record.is_file():
        print(
            f"{found['store']} has no scored runs of this plan; the page is made again from {record}", file=sys.stderr
        )
        content = read(record)
    else:
        raise RequestError(
            f"no scored runs of {found['plan']} in {found['store']}; make and score them first: "
            f"{command_line('verdict')} make score"
        )
    for path in write(content, _drawn(out), out):
        print(path)
    return 0


def _drawn(out: Path) -> list[Path]:
    """The contact sheets that are there."""
    return sorted((out / "images").glob("sheet-*.jpg"))


def _sheets(plan: Plan, found: dict[str, Any]) -> int:
    from .sheets import write_sheets

    places = {place: list(own.values()) for place, own in _rows(plan, found).items()}
    paths = write_sheets(plan, places, Path(found["out"]) / "images")
    if not paths:
        print(f"no sheet is drawn: {found['store']} has no scored run of this plan with its images", file=sys.stderr)
    for path in paths:
        print(path)
    return 0


def write(content: Answers, sheets: list[Path], out: Path) -> list[Path]:
    """Write the page and its facts. Returns their paths."""
    from . import page

    write_text(out / "answers.json", json.dumps(content.plain(), indent=1) + "\n")
    write_text(out / "index.html", page.html(content, [path.name for path in sheets]))
    return [out / "index.html", out / "answers.json"]


def _pack(plan: Plan, found: dict[str, Any]) -> int:
    out, store = Path(found["out"]), Path(found["store"])
    more = {path.name: path for path in (out / "answers.json", out / "index.html", *_drawn(out))}
    more |= {f"{path.parent.name}-{path.name}": path for path in map(Path, _names(found["winners"]))}
    more |= {path.name: path for path in store.parent.glob("captions*.txt")}
    for path in pack.pack(store, Path(found["cache"]), more, Path(found["pack"]), found["features"] == "true"):
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")
    return 0


STEPS: dict[str, Callable[[Plan, dict[str, Any]], int]] = {
    "references": _references,
    "make": _make,
    "score": _score,
    "sheets": _sheets,
    "page": _page,
    "pack": _pack,
    "lines": _lines,
    "cost": _cost,
}
