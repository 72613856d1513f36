"""`python -m sega.store verify|ls|gc`: checks, lists and clears a store. Nothing changes without `apply=true`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sega.claims import Claims, clock_difference
from sega.errors import RequestError, near
from sega.store import FAILED_KEYS, ROW_KEYS, digest, file_sha, read_rows, rewrite

HELP = """usage: python -m sega.store verify|ls|gc [store=results/runs] [apply=true]

  verify   read every record and every image; say what is damaged, missing, of another cell, or has changed its meaning
  ls       a line for each cell: images, failed, size, workers at it
  gc       what workers that died left behind, images without records, empty folders

verify and gc only say what they would do; apply=true does it. verify then drops damaged rows and images, so that the
next run makes them again; it never touches what is sound. Exit status: 0 nothing found, 1 something found, 2 a wrong
request."""

KEYS = {"store": "results/runs", "apply": "false"}


@dataclass(frozen=True)
class Finding:
    """Something about a store, and what `apply=true` does about it; None where a person must decide."""

    text: str
    remedy: str | None = None
    mend: Callable[[], None] | None = None


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    if {"-h", "--help", "help"} & set(words) or not words:
        print(HELP)
        return 0 if words else 2
    try:
        command, store, apply = _read(words)
        if command == "ls":
            return _list(store)
        return _report(_verify(store) if command == "verify" else _garbage(store), apply)
    except RequestError as error:
        print(f"sega.store: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"sega.store: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


def _read(words: list[str]) -> tuple[str, Path, bool]:
    command, options = words[0], dict(KEYS)
    if command not in ("verify", "ls", "gc"):
        raise RequestError(f"unknown command {command!r}{near(command, ('verify', 'ls', 'gc'))}")
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS:
            raise RequestError(f"unknown option {word!r}{near(key, KEYS)}")
        options[key] = value
    if options["apply"] not in ("true", "false"):
        raise RequestError(f"apply={options['apply']} must be true or false")
    store = Path(options["store"])
    if not store.is_dir():
        raise RequestError(f"store={store} is not a folder")
    return command, store, options["apply"] == "true"


def _report(findings: Iterator[Finding], apply: bool) -> int:
    found = mended = 0
    for finding in findings:
        found += 1
        print(finding.text + (f"  ->  {finding.remedy}" if finding.remedy else ""), flush=True)
        if apply and finding.mend:
            finding.mend()
            mended += 1
    if not found:
        print("nothing found")
    elif apply:
        print(f"{found} found, {mended} dealt with" + (", the others need a person" if mended < found else ""))
    else:
        print(f"{found} found; nothing was changed: apply=true does what stands behind the arrows")
    return int(found > mended)


def cells(store: Path) -> list[Path]:
    """Folders of cells, by their place; with or without a record."""
    return sorted(path for path in store.glob("*/*/*x*/*") if path.is_dir() and path.parts[-3] != "base")


def _list(store: Path) -> int:
    rows = []
    for cell in cells(store):
        model, method, size, name = cell.parts[-4:]
        done, failed = read_rows(cell / "images.jsonl", ROW_KEYS)[0], read_rows(cell / "failed.jsonl", FAILED_KEYS)[0]
        latest = {row["file"]: row for row in done}
        left = {row["file"] for row in failed} - set(latest)
        megabytes = sum(path.stat().st_size for path in cell.iterdir() if path.is_file()) / 1e6
        last = max((row.get("finished", "") for row in done), default="")
        standing = Claims(cell).standing()
        workers = {
            f"{body.get('host', '?')}:{body.get('pid', '?')}" for body in standing.values() if not body["dead"]
        }  # fmt: skip
        rows.append(
            (model, method, size, name, str(len(latest)), str(len(left)), f"{megabytes:.1f}", last,
             " ".join(sorted(workers)))
        )  # fmt: skip
    head = ("model", "method", "size", "hash", "images", "failed", "MB", "last", "workers")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _verify(store: Path) -> Iterator[Finding]:
    difference = clock_difference(store)
    if difference is not None and abs(difference) > 5:
        yield Finding(
            f"the clock of this machine is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} "
            f"that of {store}: times in records are off by that; claims do not depend on clocks"
        )
    for cell in cells(store):
        yield from _verify_record(cell)
        yield from _verify_rows(cell)
    for folder in sorted(path.parent for path in store.glob("*/base/*/*/base.json")):
        yield from _verify_bases(folder)


def _verify_record(cell: Path) -> Iterator[Finding]:
    path = cell / "run.json"
    if not path.exists():
        if (cell / "images.jsonl").exists():
            yield Finding(f"{path} is missing; the next run of the cell writes it again")
        return
    try:
        record = json.loads(path.read_text())
        identity, config = record["identity"], record.get("config")
    except (ValueError, KeyError, TypeError) as error:
        yield Finding(f"{path} is damaged ({error}); the next run of the cell writes it again")
        return
    if digest(identity) != cell.name:
        yield Finding(
            f"{path} describes cell {digest(identity)}, not the one it lies in; move the folder out of the store"
        )
        return
    now = _hash_now(config, identity)
    if now and now != cell.name:
        yield Finding(
            f"{cell}: its configuration means {now} today (defaults or methods have changed since); its images are "
            "kept, and the same line starts a new folder"
        )


def _hash_now(config: Any, identity: dict[str, Any]) -> str | None:
    """The hash that a recorded configuration gets today, with the weights of then; None where that can't be told."""
    from sega import plan
    from sega.noise import NOISE_VERSION

    if not config or not isinstance(config, dict):
        return None
    try:
        return digest(plan.identity(plan.plan(config), identity["model"]["weights"], NOISE_VERSION))
    except (RequestError, KeyError, TypeError):  # a file it names is gone, or its keys are of another version
        return None


def _verify_rows(cell: Path) -> Iterator[Finding]:
    path = cell / "images.jsonl"
    rows, _ = read_rows(path, ROW_KEYS)
    bad = []
    for row in {row["file"]: row for row in rows}.values():
        image = cell / row["file"]
        if not image.exists():
            bad.append((row, f"{image} is missing although images.jsonl lists it"))
        elif file_sha(image) != row["sha256"]:
            bad.append((row, f"{image} is damaged"))
        if _seconds(row.get("finished")) > time.time() + 60:
            yield Finding(f"{image} is of a later time than now ({row['finished']}): the clock of its worker was ahead")

    def drop(path: Path, keys: set[str], files: set[str]) -> Callable[[], None]:
        def mend() -> None:
            with Claims(cell).hold("images.jsonl", wait=True):
                rewrite(path, [row for row in read_rows(path, keys)[0] if row["file"] not in files])

        return mend

    for record, keys in ((path, ROW_KEYS), (cell / "failed.jsonl", FAILED_KEYS)):
        for number in read_rows(record, keys)[1]:
            yield Finding(f"{record}: line {number} is damaged", "the line is dropped", drop(record, keys, set()))
    for row, text in bad:
        yield Finding(
            text, "its row is dropped, and the next run makes it again", drop(path, ROW_KEYS, {row["file"]})
        )


def _seconds(text: Any) -> float:
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return 0.0


def _verify_bases(folder: Path) -> Iterator[Finding]:
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "numpy") as file:
                file.metadata()
        except SafetensorError as error:
            yield Finding(f"{path} is damaged ({error})", "removed, and made again when it is needed", path.unlink)


def _garbage(store: Path) -> Iterator[Finding]:
    for folder in sorted({path.parent for path in store.rglob(".claims")}):
        claims = Claims(folder)
        dead = [name for name, body in claims.standing().items() if body["dead"]]
        for name in dead:
            yield Finding(f"{folder / '.claims' / name}: its worker has died", "removed", lambda c=claims: c.sweep())
    for path in sorted(store.rglob(".*.tmp")):
        if not _is_claimed(path):
            yield Finding(f"{path}: left by a worker that died", "removed", lambda p=path: p.unlink(missing_ok=True))
    for path in sorted(store.rglob(".locks")):
        yield Finding(f"{path}: locks of an earlier version", "removed", lambda p=path: _remove(p))
    for cell in cells(store):
        listed = {row["file"] for row in read_rows(cell / "images.jsonl", ROW_KEYS)[0]}
        busy = set(Claims(cell).standing())
        for path in sorted(cell.glob("*.png")):
            if path.name not in listed | busy:
                yield Finding(f"{path}: no row of images.jsonl names it", "removed", path.unlink)
        if not any(cell.iterdir()):
            yield Finding(f"{cell} is empty", "removed", cell.rmdir)


def _is_claimed(scratch: Path) -> bool:
    """Whether a living worker, as far as can be told, may still be writing a scratch file `.<name>.<digits>.tmp`."""
    name = scratch.name[1:].rsplit(".", 2)[0]
    standing = Claims(scratch.parent).standing()
    return any(not body["dead"] and name.startswith(Path(claimed).stem) for claimed, body in standing.items())


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
