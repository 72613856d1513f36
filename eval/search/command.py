"""Search over the keys of methods: `python -m eval.search`."""

from __future__ import annotations

import re
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from sega.errors import RequestError, check_folder
from sega.home import command_line

from .. import options
from .definition import Definition
from .journal import Journal, need_optuna
from .read import names, read_definition

HELP = """usage: python -m eval.search search=NAME [key=value ...]

Tries points of a space of settings, ranks them among starting points such as published methods, and lets a sampler
(Optuna's TPE) choose the next ones. conf/search/NAME.yaml states the space and the objective before it begins. Names:
{names}. Several workers are the same command started several times. What stops is resumed by the same command: no
image is made twice, and a trial whose worker died is finished by another one.

  python -m eval.search search=direct trials=50
  python -m eval.search search=direct minutes=10 device=cuda       on a GPU, many of them at once
  python -m eval.search search=direct res=3x out=results/search/direct-3x
  python -m eval.search.report search=direct                       figures, table, winners

  search   -                    name of a file of conf/search, or of the folder search/ in --config-dir FOLDER
  out      results/search/NAME  folder of journal.log, the record of the search
  store    <out>/runs           folder of the images
  cache    results/cache        folder where rendered references are stored
  device   auto                 where images are made and scored: auto, cpu, cuda, cuda:N
  trials   -                    trials of all workers together, refused ones and starting points not counted
  minutes  -                    this worker ends after so many, between two images
  lease    60                   seconds after which the trial of a silent worker is taken over

Any other key is a setting of a run that is the same for all trials, such as model.path or prompts.count."""

KEYS: dict[str, Any] = {
    "search": None,
    "out": None,
    "store": None,
    "cache": "results/cache",
    "device": "auto",
    "trials": None,
    "minutes": None,
    "lease": "60",
}


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    try:
        return options.command(words, lambda: HELP.format(names=", ".join(names())), search)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume", file=sys.stderr)
        return 1


def search(words: list[str]) -> int:
    """Work on the search that the words select."""
    began = time.monotonic()
    definition, found, folders = read_words(words, KEYS)
    if found["trials"] is not None:
        definition = replace(definition, trials=options.whole_number(found, "trials", 0))
    minutes, lease = _number(found, "minutes"), _number(found, "lease") or 60.0
    out = Path(found["out"])
    check_folder("out", str(out))
    check_folder("cache", found["cache"])
    need_optuna()
    device = options.usable_device(found["device"])
    from .bench import Bench  # needs what makes images
    from .worker import Worker

    bench = Bench(definition, out, Path(found["store"] or out / "runs"), Path(found["cache"]), device, folders)
    bench.cell(next(iter(definition.start.values())))  # a wrong setting is told before there is a journal
    worker = Worker(definition, Journal(definition, out, lease), bench)
    stop = bench.session.stop
    timer = threading.Timer(max(minutes * 60 - (time.monotonic() - began), 0), stop.request) if minutes else None
    try:
        if timer:
            timer.daemon = True
            timer.start()
        with stop.handled():
            done = worker.work()
    finally:
        if timer:
            timer.cancel()
    end = "all trials are there or with other workers" if done else "stopped; the same command goes on"
    print(f"{end}  ->  {out}; {command_line('search-report')} out={out} shows it")
    return 0


def read_words(words: list[str], known: dict[str, Any]) -> tuple[Definition, dict[str, Any], list[str]]:
    """Return the definition, the options of `known`, and the words of --config-dir."""
    folders, rest = [], []
    remaining = iter(words)
    for item in remaining:
        if item in ("--config-dir", "-cd"):
            folders.append(next(remaining, ""))
        elif item.startswith(("--config-dir=", "-cd=")):
            folders.append(item.partition("=")[2])
        else:
            rest.append(item)
    found, settings = options.split_words(rest, known)
    if not found["search"]:
        raise RequestError(f"give search=NAME; searches: {', '.join(names())}")
    changes = dict(item.split("=", 1) for item in settings)
    definition = read_definition(found["search"], changes, [Path(folder).expanduser() for folder in folders])
    found["out"] = found["out"] or f"results/search/{definition.name}"
    return definition, found, [f"--config-dir={folder}" for folder in folders]


def _number(found: dict[str, Any], key: str) -> float | None:
    text = found[key]
    if text in (None, "null"):
        return None
    if not re.fullmatch(r"\d{1,9}(\.\d+)?|\.\d+", text) or not float(text):
        raise RequestError(f"{key}={text} must be a number above 0")
    return float(text)
