"""The run store: one folder per cell, named by what changes its pixels.

`<store>/<model>/<method>/<W>x<H>/<hash>/` holds `<prompt id>-<seed>.png`, `images.jsonl` (a row per finished image)
and `run.json`. Files appear by rename, whole or not at all; any number of workers may share a store.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def digest(identity: dict[str, Any]) -> str:
    """12 hex digits of a canonical form of an identity."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def file_sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A scratch path beside `path` that takes its place when the block succeeds, and vanishes when it doesn't."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file; yields whether it is ours. The system frees it when a process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


class RunFolder:
    """The folder of one cell."""

    def __init__(self, store: str | Path, model: str, method: str, size: tuple[int, int], identity: dict[str, Any]):
        self.identity, self.hash = identity, digest(identity)
        self.path = Path(store) / model / method / f"{size[0]}x{size[1]}" / self.hash
        self.rows_file = self.path / "images.jsonl"
        self._cache: tuple[Any, dict[str, dict[str, Any]]] = (None, {})

    def open(self, record: dict[str, Any]) -> None:
        """Make the folder and its run.json."""
        self.path.mkdir(parents=True, exist_ok=True)
        run = self.path / "run.json"
        if not run.exists():
            with whole(run) as scratch:
                record = {"hash": self.hash, "identity": self.identity, **record}
                scratch.write_text(json.dumps(record, indent=2) + "\n")

    def repair(self) -> list[str]:
        """Drop the damaged rows of images.jsonl; a sentence about each."""
        if not self.rows_file.exists():
            return []
        with self._rows_lock():
            lines = self.rows_file.read_text(errors="replace").splitlines()
            good = [(line, _row(line)) for line in lines]
            bad = [number for number, (_, row) in enumerate(good, 1) if row is None]
            if bad:
                with whole(self.rows_file) as scratch:
                    scratch.write_text("".join(line + "\n" for line, row in good if row is not None))
        return [f"{self.rows_file}: line {number} is damaged; its image is made again" for number in bad]

    def _rows_lock(self):
        return locked(self.path / ".locks" / "images.jsonl")

    def rows(self) -> dict[str, dict[str, Any]]:
        """Rows by file name, the last one where there are several."""
        if not self.rows_file.exists():
            return {}
        stat = self.rows_file.stat()
        if self._cache[0] != (stat.st_mtime_ns, stat.st_size):
            rows = [_row(line) for line in self.rows_file.read_text(errors="replace").splitlines()]
            self._cache = ((stat.st_mtime_ns, stat.st_size), {row["file"]: row for row in rows if row})
        return self._cache[1]

    def state(self, file: str) -> str | None:
        """"done", None for an image not there yet, or a sentence that says what is wrong with it."""
        path, row = self.path / file, self.rows().get(file)
        if row is None:
            return None
        if not path.exists():
            return f"{path} is missing although images.jsonl lists it; made again"
        if file_sha(path) != row["sha256"]:
            return f"{path} is damaged; made again"
        return "done"

    @contextlib.contextmanager
    def claim(self, file: str, wait: bool = False) -> Iterator[bool]:
        """Hold one image against other workers; yields whether it is ours."""
        path = self.path / ".locks" / file
        with locked(path, wait) as mine:
            yield mine
            if mine:
                path.unlink(missing_ok=True)

    def add(self, file: str, image, row: dict[str, Any]) -> dict[str, Any]:
        """Write an image, then its row."""
        with whole(self.path / file) as scratch:
            image.save(scratch, format="PNG")
        row = {**row, "file": file, "sha256": file_sha(self.path / file)}
        with self._rows_lock(), self.rows_file.open("ab+") as rows:
            text = json.dumps(row, ensure_ascii=False) + "\n"
            # A worker that died while writing may have left a line without an end.
            if rows.tell() and not _ends_line(self.rows_file):
                text = "\n" + text
            rows.write(text.encode())
        return row


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"file", "sha256", "prompt_id", "prompt", "seed"} <= set(row) else None
