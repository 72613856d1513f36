"""Find images whose steps were recorded (`run.py record=[...]`). Reads records only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sega.errors import RequestError
from sega.home import command_line
from sega.store.schema import StepRow
from sega.store.step_files import maps_file, read_steps, rows_file

from .labels import method_label, method_place
from .runs import Run, RunImage, find_runs, load_run, select

MAKE = f"{command_line('run')} ... record=[magnitudes,spectrum,attention] records them"


@dataclass(frozen=True)
class Recorded:
    """One image with step records."""

    run: Run
    label: str
    image: RunImage

    @property
    def size(self) -> str:
        return f"{self.run.width}x{self.run.height}"

    @property
    def files(self) -> list[Path]:
        """Files that a figure of this image depends on."""
        paths = (rows_file(self.image.path), maps_file(self.image.path), self.image.path)
        return [path for path in paths if path.exists()]

    def steps(self, maps: bool = True) -> list[StepRow]:
        """Return the rows of the last stage in order, without probes and without calls of the negative prompt."""
        rows = read_steps(self.image.path, maps)
        rows = [row for row in rows if row["branch"] == "cond" and "probe" not in row]
        return [row for row in rows if row["stage"] == rows[-1]["stage"]]


def load(store: Path, model: str | None = None, method: str | None = None) -> list[Recorded]:
    """Return all images with step records in a store, of the given models and methods (commas between names)."""
    if not store.is_dir():
        raise RequestError(f"no store at {store}; generate first ({command_line('run')}) or give store=")
    runs = select(find_runs(store), store, model, method)
    labels = {run.folder: method_label(run) for run in runs}
    count = Counter((run.model, run.width, run.height, labels[run.folder]) for run in runs)
    found = []
    for run in sorted(runs, key=lambda run: order(run, labels[run.folder])):
        label = labels[run.folder]
        label += f" [{run.hash[:8]}]" if count[run.model, run.width, run.height, label] > 1 else ""
        found += [Recorded(run, label, p) for p in run.images if rows_file(p.path).exists()]
    return found


def of_run(folder: Path) -> list[Recorded]:
    """Return the images with step records of one run folder."""
    run = load_run(folder)
    return [Recorded(run, method_label(run), p) for p in run.images if rows_file(p.path).exists()]


def order(run: Run, label: str) -> tuple[Any, ...]:
    """Return a sort key: model, area, then methods in the order of declaration."""
    return run.model, (run.width or 0) * (run.height or 0), method_place(run.method), len(label), label


def of_size(recorded: list[Recorded], model: str, size: str) -> list[Recorded]:
    """Return the images of one model and size."""
    return [item for item in recorded if item.run.model == model and item.size == size]
