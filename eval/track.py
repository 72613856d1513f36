"""Scores on a dashboard: `python -m eval` sends those of runs made with tracker=wandb; this sends any, later.

Made from records alone, into the very run that run.py tracked.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near

from . import options as arguments
from .records.runs import Run, read_scores, score_rows

HELP = """usage: python -m eval.track [key=value ...]

Sends scored runs to Weights & Biases: configuration, scores with intervals, timing, a table of pictures with prompts
and, where steps were recorded, scaling maps. A run of the store is one run there, also when it is sent again.

  python -m eval.track                          into offline files under results/wandb; wandb sync sends them
  python -m eval.track mode=online project=sega-bench

{selection}
  project  sega-bench
  mode     offline          offline or online
  group                     one name for all; otherwise runs of one model and prompts stand together
  images   8                pictures in the table of a run
  timeout  30               seconds to wait for the service
  folder   results          holds the folder wandb/""".replace("{selection}", arguments.SELECTION)

OPTIONS = {
    "project": "sega-bench",
    "mode": "offline",
    "group": None,
    "images": "8",
    "timeout": "30",
    "folder": "results",
}


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return arguments.command(words, HELP, track)


def track(words: list[str]) -> int:
    """Send what the words select."""
    options = arguments.parse(words, arguments.KEYS | OPTIONS)
    if options["mode"] not in ("offline", "online"):
        raise RequestError(f"mode={options['mode']} is unknown{near(options['mode'], ('offline', 'online'))}")
    tracker = {key: options[key] for key in OPTIONS} | {"name": "wandb"}
    tracker |= {"images": arguments.whole(options, "images", 0), "timeout": arguments.whole(options, "timeout")}
    rows = [row for row in arguments.scored(options) if not row.is_reference]
    for row in rows:
        send(row.run, row.protocol, tracker)
        print(f"{row.run.name}, {row.protocol}")
    return 0


def send(run: Run, protocol: str, options: dict[str, Any] | None = None) -> None:
    """Send the scores of a run by one protocol; without `options`, as its own configuration says."""
    from sega.run.tracker import open_tracker

    options = options or run.config.get("tracker") or {"name": "none"}
    if options["name"] == "none" or not run.width:
        return
    name = f"{run.model} {run.method} {run.width}x{run.height}"
    tracker = open_tracker(options, name, run.method, run.hash, {"identity": run.identity, "config": run.config})
    tracker.scores(Path(run.folder), protocol, read_scores(run.folder, protocol), score_rows(run.folder, protocol))
    tracker.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
