"""Read and write rows of JSON-lines files. Damaged lines are reported by number and never used.

A prompt may hold what other readers take for the end of a line, so only a line feed ends one. The name of a file in
a row is a plain name: it can't lead out of the folder of the record.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sega.store.files import atomic

ROW_KEYS = {"file", "sha256", "prompt_id", "prompt", "seed"}
FAILED_KEYS = {"file", "reason", "prompt_id", "prompt", "seed"}
KINDS = {
    "file": str,
    "sha256": str,
    "prompt_id": str,
    "prompt": str,
    "seed": int,
    "reason": str,
    "protocol": str,
    "cell": str,
    "values": dict,
}
"""What the value of a key must be, where a reader asks for the key."""


def lines(path: Path) -> list[bytes]:
    """Lines of a file without their ends; none where there is no file."""
    try:
        content = path.read_bytes().removesuffix(b"\n")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return []
    return content.split(b"\n") if content else []


def parse(line: bytes, keys: Iterable[str]) -> dict[str, Any] | None:
    """The row of a line, with `keys` in it; None for one that is damaged or could lead out of its folder."""
    try:
        row = json.loads(line.decode())
        if b"\\ud" in line.lower():  # half a character, which nothing can write again
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not all(key in row and _fits(key, row[key]) for key in keys):
        return None
    return row


def _fits(key: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, KINDS.get(key, object)):
        return False
    return key != "file" or (isinstance(value, str) and is_plain_name(value))


def is_plain_name(name: str) -> bool:
    """Whether a text names a visible file in one folder."""
    return not name.startswith(".") and not set(name) & set("/\\\0") and 0 < len(name.encode()) <= 255


def read_rows(path: Path, keys: Iterable[str] = ()) -> tuple[list[dict[str, Any]], list[int]]:
    """Rows of a file that hold `keys`, and the numbers of its damaged lines; none where there is no file."""
    found = [(number, parse(line, keys)) for number, line in enumerate(lines(path), 1) if line.strip()]
    return [row for _, row in found if row is not None], [number for number, row in found if row is None]


def write_lines(path: Path, kept: list[bytes]) -> None:
    """Replace the lines of a file; without any, the file goes."""
    if not kept:
        path.unlink(missing_ok=True)
        return
    with atomic(path) as scratch:
        scratch.write_bytes(b"".join(line + b"\n" for line in kept))


def as_line(row: Mapping[str, Any]) -> bytes:
    """A row as a line without its end."""
    return json.dumps(row, ensure_ascii=False).encode()
