"""Pack a scored test without its images, to be read on another machine."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

LARGEST = 15 * 2**20
"""Bytes of an archive. Features hardly get smaller, records get about a tenth."""


def pack(store: Path, cache: Path, more: dict[str, Path], out: Path, features: bool) -> list[Path]:
    """Write archives of the records of a store and of `more` files by name, and of the features. Returns their paths.

    The first one has all that is needed to read verdicts that were made already; with the features and the reference
    sets of the cache, distances can be compared anew. All are unpacked into the folder that holds the store.
    """
    out.mkdir(parents=True, exist_ok=True)
    top = store.parent
    records = [path for path in sorted(store.rglob("*.json*")) if path.is_file() and ".multirun" not in path.parts]
    names = [(path, str(path.relative_to(top))) for path in records]
    names += [(path, name) for name, path in sorted(more.items()) if path.is_file()]
    made = [_archive(out / "verdict-records.tar.xz", names)]
    if features:
        own = [(path, str(path.relative_to(top))) for path in sorted(store.rglob("features-*.npz"))]
        own += [
            (path, f"cache/{path.relative_to(cache)}")
            for part in ("references", "renders")
            for path in sorted((cache / part).rglob("*"))
            if path.suffix in (".json", ".jsonl", ".npz")
        ]
        made += [_archive(out / f"verdict-features-{k}.tar", part) for k, part in enumerate(_parts(own), 1)]
    return made


def _parts(files: list[tuple[Path, str]]) -> Iterator[list[tuple[Path, str]]]:
    """Split files into lists of at most LARGEST bytes."""
    part: list[tuple[Path, str]] = []
    size = 0
    for path, name in files:
        each = path.stat().st_size + 1024
        if part and size + each > LARGEST:
            yield part
            part, size = [], 0
        part.append((path, name))
        size += each
    if part:
        yield part


def _archive(path: Path, files: list[tuple[Path, str]]) -> Path:
    """Write files under names into an archive, the same bytes for the same files."""
    with tarfile.open(path, "w:xz" if path.suffix == ".xz" else "w") as archive:
        for file, name in files:
            data = file.read_bytes()
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return path
