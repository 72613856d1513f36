"""Images whose steps were recorded (`run.py record=[...]`), chosen for a figure. Reads records only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near
from sega.store.step_files import maps_file, read_steps, rows_file

from ..output.manifest import NothingError
from .rows import method_label
from .runs import Picture, Run, find_runs, load_run

MAKE = "python run.py ... record=[magnitudes,spectrum,attention] records them"


@dataclass(frozen=True)
class Recorded:
    """One image with step records."""

    run: Run
    label: str
    picture: Picture

    @property
    def size(self) -> str:
        return f"{self.run.width}x{self.run.height}"

    @property
    def files(self) -> list[Path]:
        """What a figure of it depends on."""
        paths = (rows_file(self.picture.path), maps_file(self.picture.path), self.picture.path)
        return [path for path in paths if path.exists()]

    def steps(self, maps: bool = True) -> list[dict[str, Any]]:
        """Rows of the last stage in order, without rehearsals and unguided branches."""
        rows = read_steps(self.picture.path, maps)
        rows = [row for row in rows if row["branch"] == "cond" and "rehearsal" not in row]
        return [row for row in rows if row["stage"] == rows[-1]["stage"]]


def load(store: Path, model: str | None = None, method: str | None = None) -> list[Recorded]:
    """Every image with step records in a store, of the given models and methods (commas between names)."""
    if not store.is_dir():
        raise RequestError(f"no store at {store}; generate first (python run.py) or give store=")
    runs = find_runs(store)
    for key, names in (("model", model), ("method", method)):
        known = sorted({getattr(run, key) for run in runs})
        for name in str(names).split(",") if names else ():
            if name not in known:
                raise RequestError(f"no run of {key}={name} in {store}{near(name, known)}")
        runs = [run for run in runs if not names or getattr(run, key) in str(names).split(",")]
    labels = {run.folder: method_label(run) for run in runs}
    count = Counter((run.model, run.width, run.height, labels[run.folder]) for run in runs)
    found = []
    for run in sorted(runs, key=lambda run: order(run, labels[run.folder])):
        label = labels[run.folder]
        label += f" [{run.hash[:8]}]" if count[run.model, run.width, run.height, label] > 1 else ""
        found += [Recorded(run, label, p) for p in run.pictures if rows_file(p.path).exists()]
    return found


def of_run(folder: Path) -> list[Recorded]:
    """The images with step records of one run folder."""
    run = load_run(folder)
    return [Recorded(run, method_label(run), p) for p in run.pictures if rows_file(p.path).exists()]


def order(run: Run, label: str) -> tuple:
    """Model, area, then methods as they are declared."""
    from sega.methods.registry import METHODS

    names = list(METHODS)
    place = names.index(run.method) if run.method in names else len(names)
    return run.model, run.width * run.height, place, len(label), label


def of_size(recorded: list[Recorded], model: str, size: str) -> list[Recorded]:
    """Those of one model and size."""
    return [item for item in recorded if item.run.model == model and item.size == size]


def one_prompt(recorded: list[Recorded], prompt: str | None, seed: int | None) -> list[Recorded]:
    """An image a label, all of the same prompt and seed: those asked for, or the first that most labels have."""
    keys = Counter(item.picture.key for item in recorded)
    if prompt is not None:
        known = sorted({key[0] for key in keys})
        if prompt not in known:
            raise RequestError(f"no recorded steps of prompt={prompt}{near(prompt, known)}")
        keys = Counter({key: count for key, count in keys.items() if key[0] == prompt})
    if seed is not None:
        keys = Counter({key: count for key, count in keys.items() if key[1] == seed})
    if not keys:
        raise NothingError(f"no recorded steps of this prompt and seed; {MAKE}")
    chosen = min(keys, key=lambda key: (-keys[key], key))
    return [item for item in recorded if item.picture.key == chosen]
