"""Offline files of Weights & Biases that wait to be sent, and the line that sends them. Does not import wandb."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sega.run.cell import Cell

MOST = 4
"""Runs that the line names one by one; of more it names the folder."""


def of_cells(cells: Iterable[Cell]) -> list[str]:
    """The lines about the cells of a request; none without tracker=wandb."""
    tracked = [cell for cell in cells if cell.config["tracker"]["name"] == "wandb"]
    return lines([(cell.config["tracker"]["folder"], cell.folder.hash) for cell in tracked])


def lines(runs: Iterable[tuple[str, str]]) -> list[str]:
    """Where the offline files of runs lie, and the line that sends them; [] if none waits.

    `runs` gives for each the folder of its tracker and the hash of its cell.
    """
    waiting = [path for folder, identity in dict.fromkeys(runs) if (path := last_session(Path(folder), identity))]
    if not waiting:
        return []
    folders = list(dict.fromkeys(path.parent for path in waiting))
    if len(waiting) <= MOST:
        paths = [shlex.quote(str(path)) for path in waiting]
    else:
        paths = [f"{shlex.quote(str(folder))}/offline-run-*" for folder in folders]
    what = "1 run waits" if len(waiting) == 1 else f"{len(waiting)} runs wait"
    return [f"W&B: {what} offline in {', '.join(map(str, folders))}; to send: wandb sync {' '.join(paths)}"]


def last_session(folder: Path, identity: str) -> Path | None:
    """The folder of the last offline session of a run, which holds all of it; None if there is none or it was sent."""
    sessions = sorted((folder / "wandb").glob(f"offline-run-*-{identity}"))
    return sessions[-1] if sessions and not any(sessions[-1].glob("*.wandb.synced")) else None
