"""Write the answer page from the records of a store: `python -m eval.answer`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near
from sega.home import command_line

from .. import options
from ..metrics.registry import metrics
from ..records.files import write_text
from ..records.rows import Row
from . import images, page, text
from .collect import Options, collect
from .types import COSTS, Answer, read

HELP = """usage: python -m eval.answer [key=value ...]

Writes a page that says which method to take at which cost: for each model and size the choices, plots of cost against
quality with the Pareto front, and a leaderboard with a sentence on each method, its commit and its command; and beside
it the published values with their spread between papers. Every sentence is made by a rule from paired comparisons.

  python -m eval.answer                                      everything in results/runs
  python -m eval.answer store=results/embedded/runs out=results/answer
  python -m eval.answer store=a/runs,b/runs metrics=fid,clip_score cost=seconds

  out      results/answer   folder of index.html, answer.md, answer.json and images/
{selection}
  cost     auto             what methods are compared by: seconds, calls (each counted by the pixels of its stage) or
                            memory; auto: seconds, or calls where the machine was busy while they were measured
  metrics  -                metrics to compare by (default: attribute_accuracy, imagereward, clip_score, fid and
                            spectrum_distance, as far as they were scored)
  prompt   -                id of the caption whose images are shown (default: the first that most methods have)

Several stores have commas between them. Without runs in the store the page is made again from answer.json in `out`.
The same records give the same bytes.""".replace("{selection}", options.SELECTION)

KEYS = options.KEYS | {"out": "results/answer", "cost": "auto", "metrics": None, "prompt": None}


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return options.command(words, lambda: HELP, answer)


def answer(words: list[str]) -> int:
    """Write the page that the words select."""
    found = options.parse(words, KEYS)
    if found["cost"] not in ("auto", *COSTS):
        known = ("auto", *COSTS)
        raise RequestError(f"cost={found['cost']} is not one of {', '.join(known)}{near(found['cost'], known)}")
    chosen = Options(found["cost"], _names(found["metrics"]), found["prompt"])
    out, record = Path(found["out"]), Path(found["out"]) / "answer.json"
    stores = [Path(name) for name in str(found["store"]).split(",")]
    if not any(any(store.glob("*/*/*/*/scores.json")) for store in stores):
        if not record.is_file():
            raise RequestError(
                f"no scored runs in {found['store']}, and no {record} of an earlier page; generate "
                f"({command_line('run')}), then score ({command_line('eval')})"
            )
        print(f"{found['store']} has no scored runs; the page is made again from {record}")
        content, rows = read(record), []
    else:
        content, rows = _collected(stores, found, chosen)
    for path in write(content, rows, out):
        print(path)
    print(f"Open {out / 'index.html'}")
    return 0


def _names(given: str | None) -> tuple[str, ...]:
    names = tuple(given.strip("[]").split(",")) if given else ()
    for name in names:
        if name not in metrics():
            raise RequestError(f"unknown metric {name} in metrics={given}{near(name, metrics())}")
        if not metrics()[name].ranked:
            raise RequestError(f"metrics={given}: {name} has no better end, so methods can't be compared by it")
    return names


def _collected(stores: list[Path], found: dict[str, Any], chosen: Options) -> tuple[Answer, list[Row]]:
    sections, rows = [], []
    for store, label in zip(stores, labels(stores), strict=True):
        own = options.scored(found | {"store": str(store)})
        rows += own
        content = collect(own, Path(found["cache"]), chosen)
        sections += [replace(section, store=label) for section in content.sections]
    return Answer(tuple(sections)), rows


def labels(stores: list[Path]) -> list[str]:
    """Return what tells several stores apart: their paths without the folders they share; "" for a single one."""
    if len(stores) == 1:
        return [""]
    parts = [store.parts for store in stores]
    shared = 0
    while all(len(own) > shared + 1 and own[shared] == parts[0][shared] for own in parts):
        shared += 1
    return ["/".join(own[shared:]) for own in parts]


def write(content: Answer, rows: list[Row], out: Path) -> list[Path]:
    """Write the files of the page. Returns their paths."""
    there = images.write(content, rows, out)
    files = {
        "index.html": page.html(content, there),
        "answer.md": text.markdown(content),
        "answer.json": json.dumps(content.plain(), sort_keys=True, indent=1) + "\n",
    }
    for name, body in files.items():
        write_text(out / name, body)
    return [out / name for name in files]
