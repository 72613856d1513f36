"""What the evaluation reads from a run folder, and the records it writes there.

A run folder is `<model>/<method>/<W>x<H>/<hash>/` with `run.json`, `images.jsonl` and pictures. The evaluation adds
`scores.json` (one block a protocol), `scores.jsonl` (a row a picture and protocol) and `features-<protocol>.npz`.
Files appear by rename, whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sega.errors import RequestError

SCHEMA = 1


@dataclass(frozen=True)
class Picture:
    """One picture of a run or of any folder."""

    path: Path
    prompt_id: str
    seed: int
    prompt: str | None = None
    sha: str | None = None  # as recorded when it was made; None for pictures from elsewhere
    cost: dict[str, float | None] = field(default_factory=dict)  # seconds, calls, peak_memory_mb

    @property
    def key(self) -> tuple[str, int]:
        """What pairs it with the same picture of another method."""
        return self.prompt_id, self.seed


@dataclass(frozen=True)
class Run:
    """A set of pictures that is scored together."""

    folder: Path
    model: str
    method: str
    width: int | None
    height: int | None
    hash: str
    identity: dict[str, Any]
    config: dict[str, Any]
    pictures: list[Picture]
    damaged_rows: list[str] = field(default_factory=list)  # lines of images.jsonl that can't be read
    notes: list[str] = field(default_factory=list)  # what of a folder of pictures is left out, and why

    @property
    def name(self) -> str:
        """Short name for messages."""
        if not self.width:
            return str(self.folder)
        return f"{self.model} {self.method} {self.width}x{self.height} {self.hash[:8]}"


def read_json(path: Path) -> Any:
    """A JSON file; RequestError names one that can't be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} can't be read: {error}") from error


def read_rows(path: Path, keys: Iterable[str] = ()) -> tuple[list[dict[str, Any]], list[int]]:
    """Rows of a JSON-lines file that hold `keys`, and the numbers of its damaged lines; no rows when it is missing."""
    rows, damaged = [], []
    text = path.read_text(errors="replace") if path.exists() else ""
    for number, line in enumerate(text.split("\n"), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict) and set(keys) <= set(row):
            rows.append(row)
        elif line.strip():
            damaged.append(number)
    return rows, damaged


def load_run(folder: Path) -> Run:
    """A run folder. The place in the store says model, method and size."""
    record = read_json(folder / "run.json")
    parts = folder.resolve().parts
    width, _, height = parts[-2].partition("x")
    if len(parts) < 4 or not (width.isdigit() and height.isdigit()):
        raise RequestError(f"{folder} is no run folder: expected <model>/<method>/<W>x<H>/<hash>")
    rows, damaged = read_rows(folder / "images.jsonl", ("file", "sha256", "prompt_id", "prompt", "seed"))
    latest = {row["file"]: row for row in rows}
    pictures = [
        Picture(
            folder / row["file"], str(row["prompt_id"]), int(row["seed"]), row.get("prompt"), row.get("sha256"),
            {key: row.get(key) for key in ("seconds", "calls", "peak_memory_mb")},
        )
        for row in latest.values()
    ]  # fmt: skip
    return Run(
        folder, parts[-4], parts[-3], int(width), int(height), str(record.get("hash", parts[-1])),
        record.get("identity", {}), record.get("config", {}), sorted(pictures, key=lambda p: p.key),
        [f"{folder / 'images.jsonl'} line {number}" for number in damaged],
    )  # fmt: skip


def find_runs(store: Path) -> list[Run]:
    """Every run with pictures under a store, in order of its folders."""
    folders = sorted(path.parent for path in store.glob("*/*/*x*/*/run.json"))
    return [run for run in map(load_run, folders) if run.pictures]


def digest(value: Any) -> str:
    """Hash of plain data, 16 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(*paths: Path) -> str:
    """sha256 over the contents of files, in the order given."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def file_digest_plain(path: Path) -> str:
    """sha256 of one file, as `images.jsonl` records it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write by rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text)
    os.replace(part, path)


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write an npz by rename."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part.npz")
    np.savez_compressed(part, **arrays)
    os.replace(part, path)


def read_arrays(path: Path) -> dict[str, Any]:
    """Arrays of an npz, {} when it is missing or damaged (they are then computed again)."""
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return {}


def read_scores(folder: Path, protocol: str) -> dict[str, Any]:
    """The block of one protocol in `scores.json`, {} when there is none."""
    path = folder / "scores.json"
    if not path.exists():
        return {}
    record = read_json(path)
    return record.get("protocols", {}).get(protocol, {}) if record.get("schema") == SCHEMA else {}


def score_rows(folder: Path, protocol: str) -> list[dict[str, Any]]:
    """Rows of one protocol in `scores.jsonl`."""
    rows, _ = read_rows(folder / "scores.jsonl", ("protocol", "prompt_id", "seed", "sha256", "values"))
    return [row for row in rows if row["protocol"] == protocol]


def write_scores(
    folder: Path, protocol: str, block: dict[str, Any], rows: Iterable[dict[str, Any]], arrays: dict[str, Any]
) -> None:
    """Replace the records of one protocol and keep those of the others; `scores.json` comes last."""
    kept = [row for row in read_rows(folder / "scores.jsonl", ("protocol",))[0] if row["protocol"] != protocol]
    lines = [json.dumps(row, sort_keys=True) for row in [*kept, *({"protocol": protocol} | row for row in rows)]]
    write_arrays(folder / f"features-{protocol}.npz", arrays)
    write_text(folder / "scores.jsonl", "".join(line + "\n" for line in lines))
    path = folder / "scores.json"
    record = read_json(path) if path.exists() else {}
    blocks = record.get("protocols", {}) if record.get("schema") == SCHEMA else {}
    record = {"schema": SCHEMA, "protocols": {**blocks, protocol: block}}
    write_text(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
