"""Write files by rename, so that they are complete or absent; locks, hashes, and a folder for removed files."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

REMOVED = ".removed"
"""Folder for what was taken away: `.removed/<date>/...`. Nothing reads it; it may be deleted."""


def digest(identity: dict[str, Any]) -> str:
    """12 hex digits of a canonical form of an identity."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def file_sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha_once(path: Path) -> str:
    """The sha256 of a file, which is read again only if its size or time changed."""
    stat = path.stat()
    return _file_sha_at(path, stat.st_size, stat.st_mtime_ns)


@cache
def _file_sha_at(path: Path, size: int, time: int) -> str:
    return file_sha(path)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a scratch path that replaces `path` if the block succeeds and is removed if it fails.

    A folder of that name is set aside. An OSError of the block names `path` where it names no file.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield scratch
        if path.is_dir() and not path.is_symlink():
            set_aside(path)
        scratch.replace(path)
    except OSError as error:
        if error.errno is not None and (error.filename is None or Path(error.filename) == scratch):
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):  # a disk that fails must not hide the first error
            scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file of this machine; yields whether it is ours. The system frees it when a process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def set_aside(path: Path, root: Path | None = None) -> Path:
    """Move a file or folder to `<root>/.removed/<date>/<its place under root>`; returns where it is now.

    `root` is the folder it lies in unless given. Nothing is overwritten.
    """
    root = root or path.parent
    place = root / REMOVED / time.strftime("%Y-%m-%d") / path.relative_to(root)
    place.parent.mkdir(parents=True, exist_ok=True)
    while place.exists() or place.is_symlink():
        place = place.with_name(f"{path.name}.{secrets.token_hex(4)}")
    return path.rename(place)


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a JSON object from a file; None if there is no file or it holds something else."""
    try:
        record = json.loads(path.read_bytes().decode())
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
