"""Read images that this project did not make: any folder, with an optional file of prompts.

Layouts: images anywhere under the folder; GenEval's `<number>/samples/*` with `<number>/metadata.jsonl`, whose
`<number>/grid.png` repeats the samples and is left out; or Aesthetic-4K's, images with a `metadata.jsonl` beside them
that has `file_name` and `text` (also that of Hugging Face's image folders). Hidden files and folders are ignored.
Prompts: `.txt` with a line for each image in order of names, or `.jsonl`, `.json`, `.csv` or `.tsv` with the columns of
`NAMES` (needed: file and prompt). A note is printed for images that are converted to 8-bit RGB.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
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
NAMES = {"file": ("file", "file_name"), "prompt": ("prompt", "text"), "id": ("prompt_id", "id"), "seed": ("seed",)}
"""Names of the columns of a file of prompts; the first that is there counts."""
COSTS = ("seconds", "calls", "peak_memory_mb")
"""Further columns: what an image cost, as in the records of a run."""


def load_folder(folder: Path, prompts: Path | None = None, seed: int = 0, lenient: bool = False) -> Run:
    """Return a folder of images as a run. Raises RequestError if it has no images or the prompts do not match.

    `seed` is that of images whose seed is not given. With `lenient`, a wrong row of the prompts becomes a note.
    """
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
    tables = [] if prompts or samples else [p for p in seen if p.name == "metadata.jsonl" and _names_files(p)]
    trouble = notes.append if lenient else _refuse
    if prompts:
        found = _with_prompts(folder, files, prompts, seed, trouble)
    elif samples:
        found = _geneval(folder, samples, notes)
        rest = [p for p in files if p not in set(samples) and not _is_grid(p)]
        notes += [f"{p.relative_to(folder)} is not a sample in GenEval's layout" for p in rest]
    elif tables:
        found = _beside(folder, files, tables, seed, trouble)
    else:
        found = [RunImage(p, str(p.relative_to(folder)), seed) for p in files]
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


def _refuse(line: str) -> None:
    raise RequestError(line)


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


def _names_files(metadata: Path) -> bool:
    """Return whether a file has rows of Aesthetic-4K's layout."""
    return any(_value(row, "file") and _value(row, "prompt") for row in read_rows(metadata)[0])


def _beside(
    folder: Path, files: list[Path], tables: list[Path], seed: int, trouble: Callable[[str], None]
) -> list[RunImage]:
    """Return the images with the prompts of the `metadata.jsonl` in their own folder or the nearest one above."""
    found = []
    for table in sorted(tables, key=lambda path: -len(path.parts)):
        here = [p for p in files if p.is_relative_to(table.parent)]
        files = [p for p in files if p not in set(here)]
        inner = _with_prompts(table.parent, here, table, seed, trouble) if here else []
        place = table.parent.relative_to(folder)
        own = {str(p.path.relative_to(table.parent)) for p in inner}
        found += [replace(p, prompt_id=str(place / p.prompt_id)) if p.prompt_id in own else p for p in inner]
    return found + [RunImage(p, str(p.relative_to(folder)), seed) for p in files]


def _with_prompts(
    folder: Path, files: list[Path], prompts: Path, seed: int, trouble: Callable[[str], None]
) -> list[RunImage]:
    """Return the images with their prompts. Rows that name no image, or give no seed or text, go to `trouble`."""
    if prompts.suffix == ".txt":
        lines = [line.removesuffix("\r") for line in read_text(prompts, f"prompts={prompts}").split("\n")]
        while lines and not lines[-1].strip():
            lines.pop()
        if len(lines) != len(files):
            counts = f"{len(lines)} lines for {len(files)} images"
            raise RequestError(f"{prompts} has {counts}; give a .csv with file,prompt")
        return [RunImage(p, str(p.relative_to(folder)), seed, line) for p, line in zip(files, lines, strict=True)]
    names = {str(p.relative_to(folder)): p for p in files}
    stems = Counter(str(Path(name).with_suffix("")) for name in names)
    by_stem = {stem: name for name in names if stems[stem := str(Path(name).with_suffix(""))] == 1}
    by_file: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(_table(prompts, trouble), 1):
        if not isinstance(row, dict) or _value(row, "file") is None or _value(row, "prompt") is None:
            trouble(f"{prompts} row {number} has no file or no prompt")
            continue
        file = str(_value(row, "file"))
        # benchmarks name their references, and generated images often have another format
        name = file if file in names else by_stem.get(str(Path(file).with_suffix("")), "")
        if not name:
            trouble(f"{prompts} names {file!r}, which is not in {folder}{near(file, list(names)[:1000])}")
        elif name in by_file and by_file[name] != row:
            trouble(f"{prompts} names {name} twice")
        else:
            by_file[name] = row
    found = [_with_row(path, name, by_file.get(name, {}), prompts, seed, trouble) for name, path in names.items()]
    known = [image for image in found if image is not None]
    if twice := [key for key, count in Counter(image.key for image in known).items() if count > 1]:
        trouble(f"{prompts} gives prompt_id {twice[0][0]} and seed {twice[0][1]} to several images")
    return known


def _with_row(
    path: Path, name: str, row: dict[str, Any], prompts: Path, seed: int, trouble: Callable[[str], None]
) -> RunImage | None:
    """Return an image with what its row says of it. None if its prompt or its seed is wrong."""
    prompt, given = _value(row, "prompt"), _value(row, "seed")
    if not isinstance(prompt, str | None):
        trouble(f"{prompts}: the prompt of {name} is not text")
        return None
    try:
        seed = seed if given in (None, "") else int(str(given))
    except ValueError:
        trouble(f"{prompts}: seed {shortened(given)} of {name} is not a whole number")
        return None
    cost = {key: value for key in COSTS if (value := _number(row.get(key))) is not None}
    return RunImage(path, str(_value(row, "id") or name), seed, prompt, cost=dict(cost))


def _number(value: Any) -> float | None:
    """Return a number of at least 0, None for anything else."""
    try:
        found = float(value)
    except (ValueError, TypeError):
        return None
    return found if 0 <= found < math.inf else None


def _value(row: dict[str, Any], key: str) -> Any:
    """Return the value of a row under any name of a column, None if there is none."""
    return next((row[name] for name in NAMES[key] if row.get(name) is not None), None)


def _table(path: Path, trouble: Callable[[str], None]) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        rows, damaged = read_rows(path)
        for number in damaged:
            trouble(f"{path} line {number} is not a JSON object")
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
