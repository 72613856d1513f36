"""Command line of the evaluation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sega.errors import RequestError

HELP = """usage: python -m eval [key=value ...]

Scores every run in the store, and does nothing for runs whose scores are there. Beside each run it writes
scores.json (metrics with intervals), scores.jsonl (a row a picture) and features-<protocol>.npz.

  python -m eval                                          every run in results/runs
  python -m eval path=results/runs/tiny/sega/256x256/1a2b3c4d
  python -m eval eval=embedded metrics=[fid,clip_score] reference.per_prompt=8
  python -m eval path=my/pictures prompts=captions.csv clip.path=ViT-L-14.safetensors reference.path=photos

  store     results/runs   folder of runs
  path      -              one run folder, or any folder of pictures
  prompts   -              .txt (a line a picture), .csv, .tsv, .json or .jsonl (file, prompt), for such a folder
  eval      auto           protocol, a file of conf/eval: {protocols}; auto: the one in the run's config
  cache     results/cache  rendered references, kept by content
  model, method            only runs of these, a comma between several

Any other key is an option of the protocol, such as features, clip.model, patch.count, kid.subsets, bootstrap.level,
batch or device; conf/eval/embedded.yaml lists and explains them. Metrics: {metrics}.
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


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    from ..metrics.registry import METRICS
    from ..options import command
    from ..protocols import protocols

    return command(words, HELP.format(protocols=", ".join(protocols()), metrics=", ".join(METRICS)), evaluate)


def evaluate(words: list[str]) -> int:
    """Score what the words ask for."""
    from sega.errors import check_folder
    from sega.store.cell_folder import cells

    from ..protocols import existing, load_protocol, split_words
    from ..records.foreign import load_folder
    from ..records.runs import is_cell, load_run

    options, rest = split_words(words, KEYS)
    path, prompts = existing(options["path"], "folder"), existing(options["prompts"], "file of prompts")
    load_protocol("embedded" if options["eval"] == "auto" else options["eval"], rest)  # wrong options come first
    if prompts and not path:
        raise RequestError("prompts=<file> goes with path=<folder of pictures>; runs know their prompts")
    check_folder("cache", options["cache"])
    if path and is_cell(path):
        if prompts:
            raise RequestError(f"{path} is a run and knows its prompts; leave prompts= out")
        runs = [load_run(path)]
    elif path and not any(map(is_cell, cells(path))):
        check_folder("path", path)  # scores are written there, so this is said before an hour of work
        runs = [load_folder(path, prompts)]
    else:
        runs = select(path or Path(options["store"]), options["model"], options["method"])
    names = [_protocol(run) if options["eval"] == "auto" else options["eval"] for run in runs]
    configs = {name: load_protocol(name, rest) for name in dict.fromkeys(names)}
    chosen = [(run, configs[name]) for run, name in zip(runs, names, strict=True)]
    return score_all(chosen, Path(options["cache"]))


def _protocol(run: Any) -> str:
    """The protocol a run was made for, where its config names one."""
    from ..protocols import protocols

    chosen = run.config.get("eval")
    name = chosen.get("name") if isinstance(chosen, dict) else None
    return name if name in protocols() else "embedded" if run.model == "tiny" else "plain"


def select(store: Path, model: str | None = None, method: str | None = None) -> list:
    """Runs of a store, of the given models and methods (names with commas between). RequestError when none is left."""
    from sega.errors import near

    from ..records.runs import find_runs

    if not store.is_dir():
        raise RequestError(f"no store at {store}; generate first (python run.py model=tiny res=2x) or give store=")
    runs = find_runs(store)
    if not runs:
        raise RequestError(f"no runs in {store}; generate first (python run.py model=tiny res=2x) or give store=")
    for key, names in (("model", model), ("method", method)):
        if names:
            known = sorted({getattr(run, key) for run in runs})
            for name in str(names).split(","):
                if name not in known:
                    raise RequestError(f"no run of {key}={name} in {store}{near(name, known)}")
            runs = [run for run in runs if getattr(run, key) in str(names).split(",")]
    if not runs:
        raise RequestError(f"no run in {store} is of model={model} and method={method}")
    return runs


def score_all(chosen: list[tuple[Any, dict[str, Any]]], cache: Path) -> int:
    """Score runs under their protocols, then held-out renders of the same captions."""
    from ..records.foreign import left_out
    from ..records.runs import read_scores
    from .job import prepare

    scored = skipped = 0
    told: set[str] = set()
    renders: dict[tuple, tuple[Any, dict[str, Any]]] = {}
    for number, (run, config) in enumerate(chosen, 1):
        for line in run.damaged_rows:
            print(f"warning: {line} is damaged; its picture is left out (run.py makes it again)", file=sys.stderr)
        job = prepare(run, config, cache)
        if job.gone:
            print(f"{run.name}: the pictures are not here, only their scores, which are kept")
        if job.done:
            skipped += 1
            _tell(left_out(run, read_scores(run.folder, config["name"]).get("damaged", [])))
        else:
            scored += _execute(job, cache, told, f"{number} of {len(chosen)}")
        if job.plan and job.plan.kind == "world":
            keys = tuple((*p.key, p.prompt) for p in run.pictures)
            renders.setdefault((config["name"], run.model, run.width, run.height, keys), (run, config))
    if renders:
        from .references import held_out

        for run, config in renders.values():
            job = prepare(held_out(run, cache), config, cache)
            if not job.done:
                scored += _execute(job, cache, told, "renders")
    only = chosen[0][0].folder / "scores.json" if len(chosen) == 1 else "scores.json beside the images of each run"
    print(f"{scored} scored, {skipped} already there  ->  {only}")
    return 0


def _execute(job: Any, cache: Path, told: set[str], place: str) -> int:
    from ..protocols import usable_device
    from ..records.foreign import left_out
    from ..track import send
    from .departures import lines
    from .job import execute

    job.setting.config = job.config | {"device": usable_device(job.config["device"])}
    block = execute(job, cache)
    _tell(left_out(job.run, block["damaged"]))
    send(job.run, job.config["name"])
    print(f"{place}: {job.run.name}, {block['n']} images scored", flush=True)
    for line in lines(block):
        if line not in told:
            print(f"  {line}")
        told.add(line)
    for name, cell in block["metrics"].items():
        if "reason" in cell or "warning" in cell:
            line = f"  {name} is empty: {cell['reason']}" if "reason" in cell else f"  {name}: {cell['warning']}"
            if line not in told:  # once a command, not once a run
                print(line)
            told.add(line)
    return 1


def _tell(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)
