"""Download weights of metrics: `python scripts/fetch.py pickscore imagereward`, or `all`. Without names it lists them.

`esrgan-2x`, `-3x`, `-4x` and `-8x` are no metrics but small networks for `method.kind=model` of `upsample`: npm fetches
their package, and they are converted for spandrel (`sega.loading.esrgan`). Large models such as `qalign` are folders of
the Hugging Face hub. `all` leaves both out.

A download is renamed to its final name after its checksum is correct. If the authors publish no checksum, the checksum
of the first download is stored in `checksums.json` beside the files, and later files are compared with it.
`weights=<folder>` selects the folder (default: torch's folder for checkpoints). Correct files are not fetched again.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

from sega.errors import RequestError, near
from sega.home import as_typed
from sega.loading import esrgan
from sega.store.files import file_sha

from .metrics.learned import weights
from .records.files import write_text

TIMEOUT = 30
"""Seconds to wait for an answer before the connection fails."""


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    if any(word in ("-h", "--help", "help") for word in words):
        print(as_typed(__doc__))
        return 0
    given = next((word.partition("=")[2] for word in words if word.startswith("weights=")), None)
    names = [word for word in words if not word.startswith("weights=")]
    if not names:
        listing(given)
        return 0
    try:
        for name in names if names != ["all"] else [n for n, item in weights.WEIGHTS.items() if not item.parts]:
            if name in esrgan.SCALES:
                print(esrgan.fetch(name, weights.folder(given)))
                continue
            if name not in weights.WEIGHTS:
                raise RequestError(f"unknown weights {name!r}{near(name, [*weights.WEIGHTS, *esrgan.SCALES])}")
            print(fetch(weights.WEIGHTS[name], weights.folder(given)))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def listing(given: str | None) -> None:
    """Print every file, with a mark if it is on disk."""
    print(f"in {weights.folder(given)}:")
    for item in weights.WEIGHTS.values():
        there = "" if weights.absent(weights.folder(given) / item.file, item) else "there"
        print(f"  {item.name:16} {item.size:>8}  {there:5}  {item.about}")
    for name in esrgan.SCALES:
        there = "there" if (weights.folder(given) / esrgan.file_of(name)).is_file() else ""
        print(f"  {name:16} {'3 MB':>8}  {there:5}  for method=upsample method.kind=model, which npm fetches")


def fetch(item: weights.Weights, folder: Path) -> str:
    """Download weights and return a line about them. Raises RequestError if the download or its checksum fails."""
    path = folder / item.file
    known = weights.recorded(folder)
    wanted = item.sha256 or known.get(item.file, "")
    if item.parts:
        return fetch_folder(item, path, known)
    if path.is_file() and wanted and file_sha(path) == wanted:
        return f"{item.name}: {path} exists"
    part = path.with_name(f"{path.name}.part")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        download(item.url, part, item.name)
    except (urllib.error.URLError, OSError) as error:
        part.unlink(missing_ok=True)
        why = getattr(error, "reason", None) or error
        raise RequestError(f"downloading {item.name} from {item.url} failed: {why}") from error
    found = file_sha(part)
    if wanted and found != wanted:
        part.unlink()
        raise RequestError(f"{item.url} has sha256 {found} and not {wanted}; the download was deleted")
    part.rename(path)
    if not item.sha256:
        write_text(folder / weights.RECORD, json.dumps(known | {item.file: found}, indent=1, sort_keys=True) + "\n")
        return f"{item.name}: {path} (no checksum is published; {found} is stored for later downloads)"
    return f"{item.name}: {path}"


def fetch_folder(item: weights.Weights, path: Path, known: dict[str, str]) -> str:
    """Download a folder of the hub, as `hf download` does: files that are there are compared with the hub's."""
    from huggingface_hub import snapshot_download

    for repository, patterns in item.parts:
        try:
            snapshot_download(repository, local_dir=path, allow_patterns=list(patterns))
        except OSError as error:  # as are the hub's own
            raise RequestError(f"downloading {item.name} from {repository} failed: {error}") from error
    if gone := weights.absent(path, item):
        raise RequestError(f"{item.url} came without {gone.name}")
    record = known | {item.file: weights.checksum(path, item)}
    write_text(path.parent / weights.RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")
    return f"{item.name}: {path}"


def download(url: str, path: Path, name: str) -> None:
    """Download a file to disk and show progress. An incomplete download raises OSError."""
    from tqdm import tqdm

    with urllib.request.urlopen(url, timeout=TIMEOUT) as source, path.open("wb") as file:
        total = int(source.headers.get("Content-Length") or 0)
        with tqdm(total=total or None, desc=name, unit="B", unit_scale=True, leave=False) as bar:
            while block := source.read(2**20):
                file.write(block)
                bar.update(len(block))
        if total and file.tell() != total:
            raise OSError(f"{file.tell()} of {total} bytes received")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
