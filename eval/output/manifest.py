"""Write the files of a report only if their inputs changed. A manifest stores the hashes of the inputs.

`<out>/report.json` has an entry for each part of a report: the hash of its inputs, its files with their hashes, and the
files that could not be made, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sega.store.files import atomic, file_sha, locked, read_record

from ..records.files import digest, file_digest, write_text

RECORDS = ("scores.json", "scores.jsonl", "images.jsonl", "run.json")


class NothingError(Exception):
    """Raised if there is nothing to draw. The message gives the reason."""


@dataclass
class Made:
    """Files of a part of a report. `fresh` is true if they were written now."""

    files: list[Path] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    fresh: bool = True

    def text(self, path: Path, content: str) -> None:
        """Write a text file and add it to `files`."""
        write_text(path, content)
        self.files.append(path)

    def drawing(self, path: Path, draw: Callable[[], Any]) -> None:
        """Save the Pillow image or matplotlib figure that `draw` returns. A NothingError is noted in `skipped`."""
        try:
            image = draw()
        except NothingError as reason:
            self.skipped[path.name] = str(reason)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as scratch:
            if hasattr(image, "savefig"):
                image.savefig(scratch, format="png", dpi=130, metadata={"Software": None})
            else:
                image.save(scratch, "PNG", optimize=True)
        self.files.append(path)


def inputs(rows: Iterable, options: Any, more: Iterable[Path] = ()) -> str:
    """Return the hash of the records of rows, further files, options and the source code of the evaluation."""
    package = Path(__file__).parents[1]
    patterns = ("*.py", "published/*.csv", "gallery/web/*")
    source = [path for pattern in patterns for path in sorted(package.rglob(pattern))]
    found = {row.run.folder / name for row in rows for name in RECORDS}
    files = [(str(path), file_digest(path)) for path in sorted(found | set(more)) if path.is_file()]
    votes = [row.block["metrics"].get("preference") for row in rows]
    return digest([options, file_digest(*source), files, votes])


def part(out: Path, name: str, state: str, make: Callable[[Made], None], force: bool = False) -> Made:
    """Return the files of a part. `make` writes them unless they exist and have the same inputs."""
    manifest = out / "report.json"
    entries = _read(manifest)
    entry = entries.get(name, {})
    if not force and entry.get("inputs") == state and _intact(out, entry["files"]):
        return Made([out / file for file in entry["files"]], entry["skipped"], fresh=False)
    made = Made()
    make(made)
    files = {str(path.relative_to(out)): file_sha(path) for path in made.files}
    with locked(out / ".report.lock"):  # several parts may be made at once
        entries = _read(manifest)
        entries[name] = {"inputs": state, "files": files, "skipped": made.skipped}
        shown = {file for item in entries.values() for file in item["files"]}
        for file in set(entry.get("files", ())) - shown:
            if (out / file).resolve().is_relative_to(out.resolve()):
                (out / file).unlink(missing_ok=True)  # of a cell that no longer exists
        write_text(manifest, json.dumps(entries, indent=1, sort_keys=True) + "\n")
    return made


def _read(manifest: Path) -> dict[str, Any]:
    kinds = {"inputs": str, "files": dict, "skipped": dict}  # a damaged entry is ignored, and its part made again
    return {
        name: entry
        for name, entry in (read_record(manifest) or {}).items()
        if isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in kinds.items())
    }


def _intact(out: Path, files: dict[str, str]) -> bool:
    return all((out / name).is_file() and file_sha(out / name) == sha for name, sha in files.items())
