"""Read runs: a folder `<model>/<method>/<W>x<H>/<hash>/` contains `run.json` and `images.jsonl`."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near
from sega.home import command_line
from sega.store.cell_folder import run_folders
from sega.store.files import read_record
from sega.store.rows import ROW_KEYS, read_rows

Key = tuple[str, int]
"""(prompt id, seed). Images of two methods with equal keys are compared."""
EMBEDDED_IDS = ("embedded", "embedded-2")
"""Names of the embedded models in the identity of a run (`id` in `conf/model/tiny.yaml` and `tiny2.yaml`)."""

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
        """(prompt id, seed)."""
        return self.prompt_id, self.seed


@dataclass(frozen=True)
class Run:
    """A set of images that are scored together."""

    folder: Path
    model: str
    method: str
    width: int | None
    height: int | None
    hash: str
    identity: dict[str, Any]
    config: dict[str, Any]
    images: list[RunImage]
    damaged_rows: list[str] = field(default_factory=list)  # lines of images.jsonl that cannot be read
    notes: list[str] = field(default_factory=list)  # files of a folder of images that are left out, and why
    changes: list[str] = field(default_factory=list)  # changes to the images of a folder when they are read

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
        """Whether the images were made by an embedded model."""
        model = self.identity.get("model")
        return isinstance(model, dict) and model.get("id") in EMBEDDED_IDS

    @property
    def is_imported(self) -> bool:
        """Whether the images came from elsewhere (`eval.records.imported`)."""
        return bool(self.identity.get("imported"))

    def file_of(self, image: RunImage) -> str:
        """Return the path of an image relative to the folder of the run."""
        return str(image.path.relative_to(self.folder))


def warn(line: str) -> None:
    """Print a warning on stderr, but only once per command."""
    if line not in _told:
        _told.add(line)
        print(f"warning: {line}", file=sys.stderr, flush=True)


def forget_warnings() -> None:
    """Forget the warnings of the previous command."""
    _told.clear()


def load_run(folder: Path) -> Run:
    """Read a run folder. Model, method and size are read from its path. Raises RequestError if it is not one."""
    parts = folder.resolve().parts
    if len(parts) < 4 or not re.fullmatch(r"[0-9]+x[0-9]+", parts[-2]):
        raise RequestError(f"{folder} is not a run folder; expected <model>/<method>/<W>x<H>/<hash>")
    record = read_record(folder / "run.json")
    if record is None or not isinstance(record.get("identity", {}), dict):
        what = "is damaged" if (folder / "run.json").exists() else "is missing"
        raise RequestError(
            f"{folder / 'run.json'} {what}; the next run of the cell writes it again ({command_line('run')})"
        )
    width, height = map(int, parts[-2].split("x"))
    config = record.get("config")
    rows, damaged = read_rows(folder / "images.jsonl", ROW_KEYS)
    latest = {row["file"]: row for row in rows}
    links = [file for file in latest if (folder / file).is_symlink()]  # their targets are not files of this cell
    images = [
        RunImage(
            folder / row["file"],
            row["prompt_id"],
            row["seed"],
            row["prompt"],
            row["sha256"],
            {key: _number(row.get(key)) for key in ("seconds", "calls", "peak_memory_mb")}
            | ({"full_calls": _number(row["full_calls"])} if "full_calls" in row else {}),
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
    """Return whether a folder contains the record of a cell. `python -m sega.store` reports other folders."""
    return any((folder / name).exists() for name in ("run.json", "images.jsonl"))


def find_runs(store: Path) -> list[Run]:
    """Return every run with images in a store, in the order of folders. Prints a warning for a damaged cell."""
    found = []
    for folder in filter(is_cell, run_folders(store)):
        try:
            found.append(load_run(folder))
        except RequestError as error:
            warn(f"left out: {error}")
    return [run for run in found if run.images]


def select(runs: list[Run], store: Path, model: str | None = None, method: str | None = None) -> list[Run]:
    """Return the runs of the given models and methods (commas between names). An unknown name raises RequestError."""
    for key, names in (("model", model), ("method", method)):
        if not names:
            continue
        wanted, known = str(names).split(","), sorted({getattr(run, key) for run in runs})
        for name in wanted:
            if name not in known:
                raise RequestError(f"no run of {key}={name} in {store}{near(name, known)}")
        runs = [run for run in runs if getattr(run, key) in wanted]
    return runs
