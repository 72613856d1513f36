"""Repair the rows of a cell: used by the worker that opens it, and by `python -m sega.store`.

Whatever changes a row file holds the claim on the rows of its cell, so that no row of another worker is lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sega.store.claims import Claim, Claims
from sega.store.files import set_aside
from sega.store.rows import FAILED_KEYS, ROW_KEYS, as_line, lines, parse, read_rows, write_lines

ROWS, FAILED = "images.jsonl", "failed.jsonl"
KEYS = {ROWS: ROW_KEYS, FAILED: FAILED_KEYS}
"""The row files of a cell, and what a row of each must hold."""


@dataclass(frozen=True)
class Finding:
    """A problem in a store, and how `mend` repairs it; None if a person must decide."""

    text: str
    remedy: str | None = None
    mend: Callable[[], object] | None = None


def row_findings(cell: Path, claims: Claims) -> Iterator[Finding]:
    """Find problems of the row files of a cell: a folder in their place, an empty file, damaged lines."""
    for name, keys in KEYS.items():
        path = cell / name
        drop = partial(drop_rows, path, claims)
        if path.is_dir():
            yield Finding(f"{path} is a folder", f"moved to {cell / '.removed'}", partial(set_aside, path))
        elif path.exists() and not path.stat().st_size:
            yield Finding(f"{path} is empty, as no worker leaves it", "removed", drop)
        for number in read_rows(path, keys)[1]:
            yield Finding(f"{path}: line {number} is damaged", "dropped", drop)


def drop_rows(path: Path, claims: Claims, file: str | None = None) -> None:
    """Drop the damaged lines of a row file, and the rows of one file; without a line left, the row file goes."""
    with hold_rows(claims):
        there = lines(path)
        kept = [line for line in there if (row := parse(line, KEYS[path.name])) and row["file"] != file]
        if kept != there or not kept:
            write_lines(path, kept)


def append_row(path: Path, claims: Claims, row: Mapping[str, Any]) -> None:
    """Add a row to a row file."""
    with hold_rows(claims):
        before = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab+") as rows:
                # A worker that died while writing may have left a line without an end.
                rows.write((b"\n" if before and not _ends_line(path) else b"") + as_line(row) + b"\n")
        except OSError as error:  # a full disk: no half line stays
            error.filename = error.filename or str(path)
            if path.is_file():
                os.truncate(path, before)
            raise


def settle(cell: Path, claims: Claims) -> None:
    """Order the rows of both row files by file, the last of each, and remove the claims of the dead."""
    with hold_rows(claims):
        for name in KEYS:
            there, kept = _ordered(cell / name)
            if kept != there:
                write_lines(cell / name, kept)
    claims.sweep()


def is_settled(cell: Path, claims: Claims) -> bool:
    """Whether `settle` has nothing to do. A worker that dies in it leaves rows without order, or its claim."""
    return not claims.folder.exists() and all(there == kept for there, kept in (_ordered(cell / name) for name in KEYS))


def _ordered(path: Path) -> tuple[list[bytes], list[bytes]]:
    """The lines of a row file as they are, and in order of the files: the last of each that is not damaged."""
    there = lines(path)
    latest = {row["file"]: line for line in there if (row := parse(line, KEYS[path.name]))}
    return there, [latest[file] for file in sorted(latest)]


def busy_files(claims: Claims) -> set[str]:
    """Files that a worker which seems to be alive may be writing right now."""
    return {name for name, body in claims.standing().items() if not body["dead"]}


def hold_rows(claims: Claims) -> AbstractContextManager[Claim | None]:
    """Hold the claim on the rows of a cell; waits for it."""
    return claims.hold(ROWS, wait=True)


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"
