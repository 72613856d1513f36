"""Command line of the evaluation: `python -m eval`."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

from sega.errors import RequestError, check_folder
from sega.home import command_line
from sega.run import unsent
from sega.store.cell_folder import run_folders

from ..metrics.registry import is_voted, metrics
from ..options import command, existing, split_words
from ..protocols import load_protocol, protocols
from ..records.foreign import left_out, load_folder
from ..records.runs import Run, find_runs, is_cell, load_run, select
from ..records.scores import cut_notes
from ..track import send
from .departures import lines
from .execute import execute
from .job import Job, prepare
from .references import held_out

HELP = """usage: python -m eval [key=value ...]

Scores every run in the store. Runs that have their scores are skipped. In the folder of each run it writes
scores.json (metrics with intervals), scores.jsonl (one row per image) and features-<protocol>.npz.

  python -m eval                                          every run in results/runs
  python -m eval path=results/runs/tiny/sega/256x256/1a2b3c4d
  python -m eval eval=embedded metrics=[fid,clip_score] reference.per_prompt=8
  python -m eval path=my/images prompts=captions.csv clip.path=ViT-L-14.safetensors reference.path=photos

  store     results/runs   folder of runs
  path      -              a run folder, or any folder of images
  prompts   -              prompts of such a folder: .txt (one line per image), .csv, .tsv, .json, .jsonl (file, prompt)
  eval      auto           protocol, a file of conf/eval: {protocols}; auto: the one in the run's config
  cache     results/cache  folder where rendered references are stored
  model, method            use only these runs (several: commas between them)

Any other key is an option of the protocol, such as features, clip.model, patch.count, kid.subsets, bootstrap.level,
batch or device; conf/eval/embedded.yaml explains them. Metrics: {metrics}.
Then: python -m eval.report"""

KEYS = {
    "store": "results/runs",
    "path": None,
    "prompts": None,
    "eval": "auto",
    "cache": "results/cache",
    "model": None,
    "method": None,
}


Chosen = tuple[Run, dict[str, Any]]
"""A run, and the protocol it is scored under."""


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return command(words, _help, evaluate)


def _help() -> str:
    names = [name for name in metrics() if not is_voted(name)]
    return HELP.format(protocols=", ".join(protocols()), metrics=", ".join(names))


def evaluate(words: list[str]) -> int:
    """Score the runs that the words select."""
    options, rest = split_words(words, KEYS)
    path, prompts = existing(options["path"], "folder"), existing(options["prompts"], "file of prompts")
    auto = options["eval"] == "auto"
    protocol = cache(lambda name: load_protocol(name, rest))
    protocol("embedded" if auto else options["eval"])  # wrong options are reported before runs are searched
    if prompts and not path:
        raise RequestError("prompts=<file> needs path=<folder of images>; runs contain their prompts")
    check_folder("cache", options["cache"])
    if path and is_cell(path):
        if prompts:
            raise RequestError(f"{path} is a run and contains its prompts; remove prompts=")
        runs = [load_run(path)]
    elif path and not any(map(is_cell, run_folders(path))):
        check_folder("path", path)  # scores are written there: check before an hour of work
        runs = [load_folder(path, prompts)]
    else:
        runs = _of_store(path or Path(options["store"]), options["model"], options["method"])
    chosen = [(run, protocol(protocol_of(run) if auto else options["eval"])) for run in runs]
    return score_all(chosen, Path(options["cache"]))


def protocol_of(run: Run) -> str:
    """Return the protocol named in the config of a run, or the default for its model."""
    chosen = run.config.get("eval")
    name = chosen.get("name") if isinstance(chosen, dict) else None
    if name in protocols():
        return str(name)
    return "embedded" if run.is_embedded else "plain"


def _of_store(store: Path, model: str | None, method: str | None) -> list[Run]:
    generate = f"generate first ({command_line('run')} model=tiny res=2x) or give store="
    if not store.is_dir():
        raise RequestError(f"no store at {store}; {generate}")
    runs = find_runs(store)
    if not runs:
        raise RequestError(f"no runs in {store}; {generate}")
    return select(runs, store, model, method)


def score_all(chosen: list[Chosen], cache: Path) -> int:
    """Score runs under their protocols, then held-out renders of the same captions."""
    scored = skipped = 0
    told: set[str] = set()
    renders: dict[tuple[Any, ...], Chosen] = {}
    for number, (run, config) in enumerate(chosen, 1):
        for line in run.damaged_rows:
            print(f"warning: {line} is damaged; its image is not scored (the next run makes it again)", file=sys.stderr)
        job = prepare(run, config, cache)
        if gone := sum(job.kept):
            print(f"{run.name}: {gone} of {len(run.images)} images are missing; their scores are kept")
        if job.done:
            skipped += 1
            _tell(left_out(run, job.old["damaged"] if job.old else []))
        else:
            scored += _score(job, cache, told, f"{number} of {len(chosen)}")
        if job.plan and job.plan.kind == "world":
            keys = tuple((*p.key, p.prompt) for p in run.images)
            renders.setdefault((job.protocol, run.model, run.width, run.height, keys), (run, config))
    for run, config in renders.values():
        job = prepare(held_out(run, cache), config, cache)
        if not job.done:
            scored += _score(job, cache, told, "renders")
    only = chosen[0][0].folder / "scores.json" if len(chosen) == 1 else "scores.json beside the images of each run"
    print(f"{scored} scored, {skipped} already scored  ->  {only}")
    trackers = [(run.config.get("tracker") or {}, run.hash) for run, _ in chosen]
    for line in unsent.lines((item["folder"], name) for item, name in trackers if "folder" in item):
        print(line)
    return 0


def _score(job: Job, cache: Path, told: set[str], place: str) -> int:
    """Score one run and print notes on it, each line once per command. Returns 1."""
    block = execute(job, cache)
    _tell(left_out(job.run, block["damaged"]))
    send(job.run, job.protocol)
    print(f"{place}: {job.run.name}, {block['n']} images scored", flush=True)
    found = [f"  {line}" for line in [*lines(block), *cut_notes(block)]]
    for name, cell in block["metrics"].items():
        if "reason" in cell:
            found.append(f"  {name} has no value: {cell['reason']}")
        elif "warning" in cell:
            found.append(f"  {name}: {cell['warning']}")
    for line in found:
        if line not in told:
            print(line)
        told.add(line)
    return 1


def _tell(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)
