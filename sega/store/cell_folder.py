"""The run store: one folder per cell, named by what changes its pixels.

`<store>/<model>/<method>/<W>x<H>/<hash>/` holds `<prompt id>-<seed>.png`, `images.jsonl` (a row per finished image, in
order of the file names once a cell is complete), `failed.jsonl` (a row per failed image) and `run.json`
(`sega.store.schema` has the keys). Each image carries its own row too (`sega.store.png`). Files appear by rename,
complete or not at all; any number of workers on any number of machines may share a store (`sega.store.claims`).
`python -m sega.store verify|ls|gc` looks after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sega.errors import RequestError
from sega.store import png
from sega.store.claims import LEASE, Claim, Claims
from sega.store.files import atomic, digest, file_sha, read_record, set_aside
from sega.store.mending import FAILED, KEYS, ROWS, append_row, busy_files, drop_rows, is_settled, row_findings, settle
from sega.store.rows import read_rows

if TYPE_CHECKING:
    from PIL.Image import Image

    from sega.store.schema import FailedRow, ImageRow


def run_folders(store: Path) -> list[Path]:
    """Folders of cells by their place `<model>/<method>/<W>x<H>/<name>`, with or without records."""
    return [path for path in _folders(store) if path.parts[-3] != "base"]


def base_folders(store: Path) -> list[Path]:
    """Folders of shared base latents by their place `<model>/base/<W>x<H>/<name>` (`sega.store.bases`)."""
    return [path for path in _folders(store) if path.parts[-3] == "base"]


def _folders(store: Path) -> list[Path]:
    return sorted(
        path
        for path in store.glob("*/*/*x*/*")
        if path.is_dir()
        and re.fullmatch(r"[0-9]+x[0-9]+", path.parts[-2])
        and not any(part.startswith(".") for part in path.parts[-4:])
    )


class RunFolder:
    """The folder of one cell. `lease` is that of its claims, in seconds."""

    def __init__(
        self,
        store: str | Path,
        model: str,
        method: str,
        size: tuple[int, int],
        identity: dict[str, Any],
        lease: float = LEASE,
    ):
        self.identity, self.hash = identity, digest(identity)
        self.path = Path(store) / model / method / f"{size[0]}x{size[1]}" / self.hash
        self.rows_file, self.failed_file = self.path / ROWS, self.path / FAILED
        self.claims = Claims(self.path, lease)
        self._cache: dict[Path, tuple[Any, dict[str, dict[str, Any]]]] = {}

    def is_described(self) -> bool:
        """Whether run.json is there and of this cell."""
        record = read_record(self.path / "run.json")
        return record is not None and _hash(record) == self.hash

    def open(self, record: Mapping[str, Any]) -> list[str]:
        """Make the folder and its run.json; return a sentence for each difference to an earlier one.

        Raises RequestError for a run.json of something else.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        run = self.path / "run.json"
        with self.claims.hold(run.name, wait=True):
            there = read_record(run)
            if there is not None and _hash(there) not in (None, self.hash):
                raise RequestError(f"{run} is of another cell than its folder; move {self.path} out of the store")
            if there is not None and _hash(there) == self.hash:
                was, now = there.get("packages"), record.get("packages", {})
                was = was if isinstance(was, dict) else {}
                changed = [
                    f"{name} {was[name]} -> {now[name]}" for name in was if was[name] != now.get(name, was[name])
                ]
                return (
                    [
                        f"{self.path} was begun with other packages ({', '.join(changed)}): "
                        "pixels may differ within the cell"
                    ]
                    if changed
                    else []
                )
            problems = [f"{run} is damaged; written again"] if run.exists() else []
            if run.is_file() and run.stat().st_size:
                set_aside(run)
            if not problems and (self.rows_file.exists() or any(self.path.glob("*.png"))):
                problems.append(f"{run} is missing although there are images; written again")
            with atomic(run) as scratch:
                about = {"hash": self.hash, "identity": self.identity, **record}
                scratch.write_text(json.dumps(about, indent=2) + "\n")
        return problems

    def repair(self) -> list[str]:
        """Repair both records: drop damaged rows and rewrite those that images carry; return a sentence for each."""
        found = []
        for finding in row_findings(self.path, self.claims):
            found.append(f"{finding.text}; {finding.remedy}")
            if finding.mend:
                finding.mend()
        busy, rows = busy_files(self.claims), self.rows()
        images = [path for path in sorted(self.path.glob("*.png")) if path.name not in busy]
        again = [row for path in images if not png.agrees(path, rows.get(path.name)) and (row := png.own_row(path))]
        again = [row for row in again if self.rows().get(row["file"]) != row]  # another worker may have been quicker
        for row in again:
            append_row(self.rows_file, self.claims, row)
        if again:
            found.append(f"{self.rows_file}: {len(again)} rows were missing or wrong; written again from the images")
        return found

    def settle(self) -> None:
        """Sort the rows and remove duplicates, so that they do not depend on how they were made; remove dead claims."""
        settle(self.path, self.claims)

    def is_settled(self) -> bool:
        """Whether `settle` has nothing to do."""
        return is_settled(self.path, self.claims)

    def rows(self) -> dict[str, ImageRow]:
        """Rows by file name, the last one where there are several."""
        return cast("dict[str, ImageRow]", self._read(self.rows_file))

    def failed(self) -> dict[str, FailedRow]:
        """Rows of the images that failed and were not made since, by file name."""
        done, failed = self.rows(), cast("dict[str, FailedRow]", self._read(self.failed_file))
        return {name: row for name, row in failed.items() if name not in done}

    def _read(self, path: Path) -> dict[str, dict[str, Any]]:
        try:
            stat = path.stat()
        except FileNotFoundError:
            return {}
        key = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if self._cache.get(path, (None,))[0] != key:
            self._cache[path] = (key, {row["file"]: row for row in read_rows(path, KEYS[path.name])[0]})
        return self._cache[path][1]

    def state(self, file: str) -> str | None:
        """ "done", "failed", None for an image not there yet, or a sentence that says what is wrong with it."""
        path, row = self.path / file, self.rows().get(file)
        if row and (path.is_symlink() or path.is_dir()):
            return f"{path} is a {'link' if path.is_symlink() else 'folder'} and not an image; made again"
        if row and not path.exists():
            return f"{path} is missing although images.jsonl lists it; made again"
        if row and file_sha(path) == row["sha256"]:
            return "done"
        if own := png.own_row(path):  # the image is whole, so its row was lost or is wrong
            append_row(self.rows_file, self.claims, own)
            return "done"
        if row:
            return f"{path} is damaged; made again"
        return "failed" if file in self.failed() else None

    def claim(self, file: str, wait: bool = False) -> AbstractContextManager[Claim | None]:
        """Hold one image against other workers: a context that yields the claim, or None where another has it."""
        return self.claims.hold(file, wait)

    def add(self, file: str, image: Image, about: Mapping[str, Any]) -> ImageRow:
        """Write a PIL image, then its row: `about`, the name of the file and its hash."""
        with atomic(self.path / file) as scratch:
            png.save(image, scratch, {"cell": self.hash, **about, "file": file})
        return self._enter(file, about)

    def adopt(self, file: str, content: bytes, about: Mapping[str, Any]) -> ImageRow:
        """Write a finished PNG as it is, then its row. The image does not carry the row."""
        with atomic(self.path / file) as scratch:
            scratch.write_bytes(content)
        return self._enter(file, about)

    def _enter(self, file: str, about: Mapping[str, Any]) -> ImageRow:
        row = {**about, "file": file, "sha256": file_sha(self.path / file)}
        append_row(self.rows_file, self.claims, row)
        if file in self._read(self.failed_file):
            drop_rows(self.failed_file, self.claims, file)
        return cast("ImageRow", row)

    def add_failed(self, file: str, about: Mapping[str, Any]) -> None:
        """Record that an image failed; `about` says why in `reason`."""
        append_row(self.failed_file, self.claims, {**about, "file": file})


def _hash(record: dict[str, Any]) -> str | None:
    """The hash of the identity in a run.json; None where it holds none."""
    identity = record.get("identity")
    try:
        return digest(identity) if isinstance(identity, dict) else None
    except UnicodeEncodeError:  # half a character, which no record of ours holds
        return None
