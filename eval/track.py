"""Send scores to a dashboard: `python -m eval.track` sends any scored run.

`python -m eval` already sends the scores of runs made with tracker=wandb. Only records are read. Scores are added to
the run that run.py tracked.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near
from sega.home import command_line
from sega.run import unsent

from . import options
from .records.rows import Row
from .records.runs import Run
from .records.scores import read_scores, score_rows

HELP = """usage: python -m eval.track [key=value ...]

Sends scored runs to Weights & Biases: configuration, scores with intervals, timing, a table of images with prompts
and, where steps were recorded, scaling maps. A run of the store is one run there, also when it is sent again.

  python -m eval.track                          into offline files under results/wandb; the line that sends them is
                                                printed
  python -m eval.track mode=online project=sega-bench report=true

report=true makes a W&B report of these runs: the tables, bars of every metric, cost, image tables and scaling maps. It
is saved as a draft with mode=online (needs the package wandb-workspaces); offline its text goes to wandb/report.md.

{selection}
  project  sega-bench
  mode     offline          offline or online
  group                     one name for all; otherwise runs of one model and prompts form a group
  images   8                images in the table of a run
  thumbnail  512            their longest side in px, larger ones become JPEGs of it; none: whole images
  timeout  30               seconds to wait for the service
  folder   results          contains the folder wandb/
  report   false            also the report
  entity                    user or team of the report; yours unless given""".replace("{selection}", options.SELECTION)

OPTIONS = {
    "project": "sega-bench",
    "mode": "offline",
    "group": None,
    "images": "8",
    "thumbnail": "512",
    "timeout": "30",
    "folder": "results",
}
REPORT = {"report": "false", "entity": None}


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return options.command(words, lambda: HELP, track)


def track(words: list[str]) -> int:
    """Send the runs that the words select."""
    found = options.parse(words, options.KEYS | OPTIONS | REPORT)
    if found["mode"] not in ("offline", "online"):
        raise RequestError(f"mode={found['mode']} is unknown{near(found['mode'], ('offline', 'online'))}")
    if found["report"] not in ("true", "false"):
        raise RequestError(f"report={found['report']} must be true or false")
    online = found["mode"] == "online"
    if found["report"] == "true" and online:
        check_installed()
    tracker = {key: found[key] for key in OPTIONS} | {"name": "wandb"}
    for key, least in (("images", 0), ("timeout", 1), ("thumbnail", 16)):
        whole = key == "thumbnail" and found[key] == "none"
        tracker[key] = None if whole else options.whole_number(found, key, least)
    rows = options.scored(found)
    sent = [row for row in rows if not row.is_reference]
    for row in sent:
        send(row.run, row.protocol, tracker)
        print(f"{row.run.name}, {row.protocol}")
    for line in unsent.lines((found["folder"], row.run.hash) for row in sent):
        print(line)
    if found["report"] == "true":
        print(_report(rows, found, online))
    return 0


def _report(rows: list[Row], found: dict[str, Any], online: bool) -> str:
    """Save the report, or write its text; returns a line that says where it is."""
    from .report.dashboard import markdown, report

    cache = Path(found["cache"])
    if online:
        from sega.run.tracker import trouble

        try:
            own = user()  # also with entity=: it fails first without a login
            saved = report(rows, found["project"], cache, found["entity"] or own).save(draft=True)
        except trouble() as error:
            raise RequestError(f"the report can't be saved: {str(error).splitlines()[0]}") from error
        return f"report (a draft): {saved.url}"
    path = Path(found["folder"]) / "wandb" / "report.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(markdown(rows, found["project"], cache))
    again = f"{command_line('track')} mode=online report=true project={found['project']}"
    return f"{path} holds the text of the report; with its panels, once you are logged in: {again}"


def user() -> str:
    """Name of the user who is logged in to W&B."""
    import wandb

    return wandb.Api().default_entity


def check_installed() -> None:
    """Raise RequestError without the package that makes reports."""
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise RequestError("an online report needs the package wandb-workspaces: pip install wandb-workspaces")


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
