"""Files of records: read with damage named, written by rename, and known by their hashes."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

from sega.errors import RequestError
from sega.store.files import atomic

DAMAGED_ZIP = (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What zipfile raises for changed bytes: a bit of the flags, for example, makes a file "encrypted" (RuntimeError)."""


def digest(value: Any) -> str:
    """Hash of plain data, 16 hex digits. Scores are known by it, so its form must stay (`sega.store` has another)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(*paths: Path) -> str:
    """sha256 over the contents of files, in the order given."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def read_json(path: Path) -> Any:
    """A JSON file; RequestError names one that can't be read."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path} can't be read: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Write by rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as scratch:
        scratch.write_text(text)


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write an npz by rename."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as scratch, scratch.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_arrays(path: Path) -> dict[str, Any]:
    """Arrays of an npz, {} when it is missing or damaged (they are then computed again)."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (*DAMAGED_ZIP, KeyError):
        return {}


def are_sound(path: Path) -> bool:
    """Whether every array of an npz agrees with its checksum; holds one block in memory at a time."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except DAMAGED_ZIP:
        return False
