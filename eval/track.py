"""Send scores to a dashboard: `python -m eval.track` sends any scored run.

`python -m eval` already sends the scores of runs made with tracker=wandb. Only records are read. Scores are added to
the run that run.py tracked.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near

from . import options
from .records.runs import Run
from .records.scores import read_scores, score_rows

HELP = """usage: python -m eval.track [key=value ...]

Sends scored runs to Weights & Biases: configuration, scores with intervals, timing, a table of images with prompts
and, where steps were recorded, scaling maps. A run of the store is one run there, also when it is sent again.

  python -m eval.track                          into offline files under results/wandb; wandb sync sends them
  python -m eval.track mode=online project=sega-bench

{selection}
  project  sega-bench
  mode     offline          offline or online
  group                     one name for all; otherwise runs of one model and prompts form a group
  images   8                images in the table of a run
  timeout  30               seconds to wait for the service
  folder   results          contains the folder wandb/""".replace("{selection}", options.SELECTION)

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
    return options.command(words, lambda: HELP, track)


def track(words: list[str]) -> int:
    """Send the runs that the words select."""
    found = options.parse(words, options.KEYS | OPTIONS)
    if found["mode"] not in ("offline", "online"):
        raise RequestError(f"mode={found['mode']} is unknown{near(found['mode'], ('offline', 'online'))}")
    tracker = {key: found[key] for key in OPTIONS} | {"name": "wandb"}
    tracker |= {"images": options.whole_number(found, "images", 0), "timeout": options.whole_number(found, "timeout")}
    for row in options.scored(found):
        if not row.is_reference:
            send(row.run, row.protocol, tracker)
            print(f"{row.run.name}, {row.protocol}")
    return 0


def send(run: Run, protocol: str, tracker: dict[str, Any] | None = None) -> None:
    """Send the scores of a run under one protocol. Without `tracker`, the configuration of the run is used."""
    from sega.run.tracker import open_tracker

    from .hooks import scaling_map

    tracker = tracker or run.config.get("tracker") or {"name": "none"}
    if tracker["name"] == "none" or not run.width:
        return
    block = read_scores(run.folder, protocol)
    if block is None:  # damaged: a warning was printed
        return
    name = f"{run.model} {run.method} {run.width}x{run.height}"
    about = {"identity": run.identity, "config": run.config}
    tracked = open_tracker(tracker, name, run.method, run.hash, about, scaling_map)
    tracked.scores(Path(run.folder), protocol, block, score_rows(run.folder, protocol))
    tracked.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
