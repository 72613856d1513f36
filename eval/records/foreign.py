"""Read images that this project did not make: any folder, with an optional file of prompts.

Layouts: images anywhere under the folder; or GenEval's `<number>/samples/*` with `<number>/metadata.jsonl`, whose
`<number>/grid.png` repeats the samples and is left out. Hidden files and folders are ignored.
Prompts: `.txt` with a line for each image in order of names, or `.jsonl`, `.json`, `.csv` or `.tsv` with `file` and
`prompt` (optional: `prompt_id` and `seed`). A note is printed for images that are converted to 8-bit RGB.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near, shortened
from sega.run.prompts import read_text
from sega.store.rows import read_rows

from . import images
from .files import digest, read_json
from .runs import Run, RunImage

KINDS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
OTHERS = (".avif", ".dng", ".exr", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".ppm", ".psd", ".svg", ".tga")
"""Formats of images that are not read."""


def load_folder(folder: Path, prompts: Path | None = None) -> Run:
    """Return a folder of images as a run. Raises RequestError if it has no images or the prompts do not match."""
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder; give path=<run folder or folder of images>")
    seen = sorted(p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    files = [p for p in seen if p.suffix.lower() in KINDS and (p.is_file() or p.is_symlink())]
    if not files:
        raise RequestError(f"no images in {folder}; files that are read end in {', '.join(KINDS)}")
    notes = [
        f"{p.relative_to(folder)} has a format that is not read; convert it to PNG"
        for p in seen
        if p.suffix.lower() in OTHERS and p.is_file()
    ]
    samples = [p for p in files if p.parent.name == "samples" and _metadata(p).is_file()]
    if prompts:
        found = _with_prompts(folder, files, prompts)
    elif samples:
        found = _geneval(folder, samples, notes)
        rest = [p for p in files if p not in set(samples) and not _is_grid(p)]
        notes += [f"{p.relative_to(folder)} is not a sample in GenEval's layout" for p in rest]
    else:
        found = [RunImage(p, str(p.relative_to(folder)), 0) for p in files]
    done = Counter(change for p in found for change in images.changes(p.path))
    return Run(
        folder,
        "images",
        folder.resolve().name,
        None,
        None,
        digest(str(folder.resolve())),
        {},
        {},
        sorted(found, key=lambda p: p.key),
        notes=notes,
        changes=[f"{count} of {len(found)} images {change}" for change, count in done.items()],
    )


def left_out(run: Run, damaged: list[dict[str, str]]) -> list[str]:
    """Return lines about files that are not scored, and why; [] if all are. `damaged` is that of `scores.json`."""
    lines = []
    if damaged:
        lines.append(f"warning: {len(damaged)} of {len(run.images)} images in {run.folder} are left out:")
        lines += [f"  {item['file']} {item['why']}" for item in damaged]
    if run.notes:
        lines.append(f"warning: {len(run.notes)} more files in {run.folder} are not scored:")
        lines += [f"  {note}" for note in run.notes]
    return lines + [f"note: {change}" for change in run.changes]


def _metadata(image: Path) -> Path:
    """Return the file that contains the prompt of a sample in GenEval's layout."""
    return image.parent.parent / "metadata.jsonl"


def _is_grid(path: Path) -> bool:
    return path.stem == "grid" and (path.parent / "metadata.jsonl").is_file()


def _geneval(folder: Path, samples: list[Path], notes: list[str]) -> list[RunImage]:
    """Return the samples by folder and index. Metadata without a prompt get a line in `notes`."""
    found: list[RunImage] = []
    folders: dict[Path, list[Path]] = {}
    for path in samples:
        folders.setdefault(path.parent, []).append(path)
    for parent, paths in folders.items():
        metadata = _metadata(paths[0])
        rows, _ = read_rows(metadata, ("prompt",))
        if not rows:
            notes.append(f"{metadata.relative_to(folder)} contains no prompt; its samples are scored without one")
        prompt, name = rows[0]["prompt"] if rows else None, str(parent.parent.relative_to(folder))
        found += [RunImage(path, name, number, prompt) for number, path in enumerate(sorted(paths))]
    return found


def _with_prompts(folder: Path, files: list[Path], prompts: Path) -> list[RunImage]:
    if prompts.suffix == ".txt":
        lines = [line.removesuffix("\r") for line in read_text(prompts, f"prompts={prompts}").split("\n")]
        while lines and not lines[-1].strip():
            lines.pop()
        if len(lines) != len(files):
            counts = f"{len(lines)} lines for {len(files)} images"
            raise RequestError(f"{prompts} has {counts}; give a .csv with file,prompt")
        return [RunImage(p, str(p.relative_to(folder)), 0, line) for p, line in zip(files, lines, strict=True)]
    rows = _table(prompts)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not {"file", "prompt"} <= set(row):
            raise RequestError(f"{prompts} row {number} has no file or no prompt")
    by_file = {str(row["file"]): row for row in rows}
    names = [str(p.relative_to(folder)) for p in files]
    for name in by_file:
        if name not in names:
            raise RequestError(f"{prompts} names {name!r}, which is not in {folder}{near(name, names[:1000])}")
    found = []
    for name, path in zip(names, files, strict=True):
        row = by_file.get(name, {})
        try:
            seed = int(row.get("seed") or 0)
        except (ValueError, TypeError):
            raise RequestError(f"{prompts}: seed {shortened(row['seed'])} of {name} is not a whole number") from None
        if not isinstance(row.get("prompt", ""), str | None):
            raise RequestError(f"{prompts}: the prompt of {name} is not text")
        found.append(RunImage(path, str(row.get("prompt_id") or name), seed, row.get("prompt")))
    keys = [image.key for image in found]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RequestError(f"{prompts} gives prompt_id {twice[0]} and seed {twice[1]} to several images")
    return found


def _table(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        rows, damaged = read_rows(path)
        if damaged:
            raise RequestError(f"{path} line {damaged[0]} is not a JSON object")
        return rows
    if path.suffix == ".json":
        rows = read_json(path)
        if not isinstance(rows, list):
            raise RequestError(f"{path} must contain a list of objects with file and prompt")
        return rows
    if path.suffix in (".csv", ".tsv"):
        text = io.StringIO(read_text(path, f"prompts={path}"), newline="")
        try:
            return list(csv.DictReader(text, delimiter="\t" if path.suffix == ".tsv" else ","))
        except csv.Error as error:
            raise RequestError(f"{path} can't be read: {error}") from error
    raise RequestError(f"prompts={path} must end in .txt, .jsonl, .json, .csv or .tsv")
