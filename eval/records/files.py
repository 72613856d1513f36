"""Read, write and hash the files of records. Files are written under another name and then renamed."""

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
"""Errors of zipfile for changed bytes. A changed flag can make a file "encrypted" (RuntimeError), for example."""


def digest(value: Any) -> str:
    """Return the hash of plain data, 16 hex digits. It identifies scores, so it must not change."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(*paths: Path) -> str:
    """Return one sha256 of the contents of files, in the given order."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. A file that cannot be read raises RequestError."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path} can't be read: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file. A reader never sees a half-written file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as scratch:
        scratch.write_text(text)


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write an npz file. A reader never sees a half-written file."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as scratch, scratch.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of an npz file, {} if it is missing or damaged (they are then computed again)."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (*DAMAGED_ZIP, KeyError):
        return {}


def are_sound(path: Path) -> bool:
    """Return whether every array of an npz file has the right checksum. Reads one block at a time."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except DAMAGED_ZIP:
        return False
