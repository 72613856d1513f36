"""Runs as the evaluation reads them: a folder `<model>/<method>/<W>x<H>/<hash>/` with `run.json` and `images.jsonl`."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near
from sega.store.cell_folder import run_folders
from sega.store.files import read_record
from sega.store.rows import ROW_KEYS, read_rows

Key = tuple[str, int]
"""(prompt id, seed): what pairs an image with the same image of another method."""
EMBEDDED_ID = "embedded"
"""What the identity of a run calls the model that ships with the project (`id` in `conf/model/tiny.yaml`)."""

_told: set[str] = set()  # warnings of this command


@dataclass(frozen=True)
class RunImage:
    """One image of a run or of any folder."""

    path: Path
    prompt_id: str
    seed: int
    prompt: str | None = None
    sha: str | None = None  # as recorded when it was made; None for images from elsewhere
    cost: dict[str, float | None] = field(default_factory=dict)  # seconds, calls, peak_memory_mb

    @property
    def key(self) -> Key:
        """What pairs it with the same image of another method."""
        return self.prompt_id, self.seed


@dataclass(frozen=True)
class Run:
    """A set of images that is scored together."""

    folder: Path
    model: str
    method: str
    width: int | None
    height: int | None
    hash: str
    identity: dict[str, Any]
    config: dict[str, Any]
    images: list[RunImage]
    damaged_rows: list[str] = field(default_factory=list)  # lines of images.jsonl that can't be read
    notes: list[str] = field(default_factory=list)  # what of a folder of images is left out, and why
    changes: list[str] = field(default_factory=list)  # what is done to images of a folder when they are read

    @property
    def name(self) -> str:
        """Short name for messages."""
        if not self.width:
            return str(self.folder)
        return f"{self.model} {self.method} {self.width}x{self.height} {self.hash[:8]}"

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels, None for images of several sizes."""
        return (self.width, self.height) if self.width and self.height else None

    @property
    def is_embedded(self) -> bool:
        """Whether its images were made by the small model that ships with the project."""
        model = self.identity.get("model")
        return isinstance(model, dict) and model.get("id") == EMBEDDED_ID

    def file_of(self, image: RunImage) -> str:
        """An image's file, relative to the folder of the run."""
        return str(image.path.relative_to(self.folder))


def warn(line: str) -> None:
    """A warning on stderr, once in a command however many parts of it meet the same trouble."""
    if line not in _told:
        _told.add(line)
        print(f"warning: {line}", file=sys.stderr, flush=True)


def forget_warnings() -> None:
    """A new command begins."""
    _told.clear()


def load_run(folder: Path) -> Run:
    """A run folder. The place in the store says model, method and size. RequestError for what is none."""
    parts = folder.resolve().parts
    if len(parts) < 4 or not re.fullmatch(r"[0-9]+x[0-9]+", parts[-2]):
        raise RequestError(f"{folder} is no run folder: expected <model>/<method>/<W>x<H>/<hash>")
    record = read_record(folder / "run.json")
    if record is None or not isinstance(record.get("identity", {}), dict):
        what = "is damaged" if (folder / "run.json").exists() else "is missing"
        raise RequestError(f"{folder / 'run.json'} {what}; the next run of the cell writes it again (python run.py)")
    width, height = map(int, parts[-2].split("x"))
    config = record.get("config")
    rows, damaged = read_rows(folder / "images.jsonl", ROW_KEYS)
    latest = {row["file"]: row for row in rows}
    links = [file for file in latest if (folder / file).is_symlink()]  # what they name is not of this cell
    images = [
        RunImage(
            folder / row["file"],
            row["prompt_id"],
            row["seed"],
            row["prompt"],
            row["sha256"],
            {key: _number(row.get(key)) for key in ("seconds", "calls", "peak_memory_mb")},
        )
        for row in latest.values()
        if row["file"] not in links
    ]
    return Run(
        folder,
        parts[-4],
        parts[-3],
        width,
        height,
        str(record.get("hash", parts[-1])),
        record.get("identity", {}),
        config if isinstance(config, dict) else {},
        sorted(images, key=lambda p: p.key),
        [
            *(f"{folder / 'images.jsonl'} line {number}" for number in damaged),
            *(f"{folder / file} (a link)" for file in links),
        ],
    )


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def is_cell(folder: Path) -> bool:
    """Whether a folder holds a record of a cell; others are stray, and `python -m sega.store` looks after them."""
    return any((folder / name).exists() for name in ("run.json", "images.jsonl"))


def find_runs(store: Path) -> list[Run]:
    """Every run with images under a store, in order of its folders. A cell that can't be read is named."""
    found = []
    for folder in filter(is_cell, run_folders(store)):
        try:
            found.append(load_run(folder))
        except RequestError as error:
            warn(f"left out: {error}")
    return [run for run in found if run.images]


def select(runs: list[Run], store: Path, model: str | None = None, method: str | None = None) -> list[Run]:
    """Those of the given models and methods (commas between names). RequestError for a name that no run has."""
    for key, names in (("model", model), ("method", method)):
        if not names:
            continue
        wanted, known = str(names).split(","), sorted({getattr(run, key) for run in runs})
        for name in wanted:
            if name not in known:
                raise RequestError(f"no run of {key}={name} in {store}{near(name, known)}")
        runs = [run for run in runs if getattr(run, key) in wanted]
    return runs
