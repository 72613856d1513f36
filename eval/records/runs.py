"""What the evaluation reads from a run folder, and the records it writes there.

A run folder is `<model>/<method>/<W>x<H>/<hash>/` with `run.json`, `images.jsonl` and pictures. The evaluation adds
`scores.json` (one block a protocol), `scores.jsonl` (a row a picture and protocol) and `features-<protocol>.npz`.
Files appear by rename, whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sega.errors import RequestError
from sega.store.cell_folder import cells
from sega.store.files import read_record, whole
from sega.store.rows import ROW_KEYS, read_rows

SCHEMA = 1
DAMAGED_ZIP = (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What zipfile raises for changed bytes: a bit of the flags, for example, makes a file "encrypted" (RuntimeError)."""
SCORE_KEYS = ("protocol", "prompt_id", "seed", "sha256", "values")

_told: set[str] = set()  # warnings of this command


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
    changes: list[str] = field(default_factory=list)  # what is done to pictures of a folder when they are read

    @property
    def name(self) -> str:
        """Short name for messages."""
        if not self.width:
            return str(self.folder)
        return f"{self.model} {self.method} {self.width}x{self.height} {self.hash[:8]}"


def warn(line: str) -> None:
    """A warning on stderr, once in a command however many parts of it meet the same trouble."""
    if line not in _told:
        _told.add(line)
        print(f"warning: {line}", file=sys.stderr, flush=True)


def forget_warnings() -> None:
    """A new command begins."""
    _told.clear()


def read_json(path: Path) -> Any:
    """A JSON file; RequestError names one that can't be read."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path} can't be read: {error}") from error


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
    pictures = [
        Picture(
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
        sorted(pictures, key=lambda p: p.key),
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
    """Every run with pictures under a store, in order of its folders. A cell that can't be read is named."""
    found = []
    for folder in filter(is_cell, cells(store)):
        try:
            found.append(load_run(folder))
        except RequestError as error:
            warn(f"left out: {error}")
    return [run for run in found if run.pictures]


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


def write_text(path: Path, text: str) -> None:
    """Write by rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as scratch:
        scratch.write_text(text)


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write an npz by rename."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as scratch, scratch.open("wb") as file:
        np.savez_compressed(file, **arrays)


def are_sound(path: Path) -> bool:
    """Whether every array of an npz agrees with its checksum; holds one block in memory at a time."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except DAMAGED_ZIP:
        return False


def read_arrays(path: Path) -> dict[str, Any]:
    """Arrays of an npz, {} when it is missing or damaged (they are then computed again)."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (*DAMAGED_ZIP, KeyError):
        return {}


def read_blocks(folder: Path) -> dict[str, dict[str, Any]]:
    """The sound blocks of `scores.json` by protocol. Damaged ones are named; `python -m eval` makes them again."""
    path = folder / "scores.json"
    if not path.exists():
        return {}
    record = read_record(path)
    blocks = record.get("protocols") if record else None
    if not isinstance(blocks, dict):
        warn(f"{path} is damaged; python -m eval scores the cell again")
        return {}
    if record.get("schema") != SCHEMA:
        return {}
    sound = {name: block for name, block in blocks.items() if _is_sound(block)}
    for name in blocks.keys() - sound.keys():
        warn(f"{path} is damaged where it holds protocol {name}; python -m eval scores it again")
    return sound


def _is_sound(block: Any) -> bool:
    kinds = {"n": int, "damaged": list, "metrics": dict}
    if not isinstance(block, dict) or not all(isinstance(block.get(key), kind) for key, kind in kinds.items()):
        return False
    return "seal" not in block or _sealed(block, "block") == _seal(block, [])["block"]


def _sealed(block: dict[str, Any], what: str) -> str | None:
    """A hash of a block's seal; None where the seal itself is damaged."""
    return block["seal"].get(what) if isinstance(block["seal"], dict) else None


def _seal(block: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, str]:
    """Hashes of a block and of its rows in `scores.jsonl`: a changed digit must not pass for a score."""
    content = json.loads(json.dumps([{key: value for key, value in block.items() if key != "seal"}, rows]))
    return {"block": digest(content[0]), "rows": digest(content[1])}


def read_scores(folder: Path, protocol: str) -> dict[str, Any]:
    """The block of one protocol in `scores.json`, {} when there is none that is sound with its rows."""
    block = read_blocks(folder).get(protocol, {})
    return block if block and are_rows_sound(folder, protocol, block) else {}


def are_rows_sound(folder: Path, protocol: str, block: dict[str, Any]) -> bool:
    """Whether the rows in `scores.jsonl` are those that a block was made of; damage is named."""
    rows = score_rows(folder, protocol)
    sound = _sealed(block, "rows") == _seal({}, rows)["rows"] if "seal" in block else len(rows) >= block["n"]
    if not sound:
        warn(f"{folder / 'scores.jsonl'} is damaged; python -m eval scores the cell again")
    return sound


def score_rows(folder: Path, protocol: str) -> list[dict[str, Any]]:
    """Rows of one protocol in `scores.jsonl`."""
    rows, _ = read_rows(folder / "scores.jsonl", SCORE_KEYS)
    return [row for row in rows if row["protocol"] == protocol]


def write_scores(
    folder: Path, protocol: str, block: dict[str, Any], rows: Iterable[dict[str, Any]], arrays: dict[str, Any]
) -> None:
    """Replace the records of one protocol and keep those of the others; `scores.json` comes last."""
    others = {name: kept for name, kept in read_blocks(folder).items() if name != protocol}
    new = [{"protocol": protocol} | row for row in rows]
    kept = [row for row in read_rows(folder / "scores.jsonl", SCORE_KEYS)[0] if row["protocol"] in others]
    lines = [json.dumps(row, sort_keys=True) for row in [*kept, *new]]
    write_arrays(folder / f"features-{protocol}.npz", arrays)
    write_text(folder / "scores.jsonl", "".join(line + "\n" for line in lines))
    record = {"schema": SCHEMA, "protocols": {**others, protocol: block | {"seal": _seal(block, new)}}}
    write_text(folder / "scores.json", json.dumps(record, indent=1, sort_keys=True) + "\n")
