"""`python -m sega.store verify|ls|gc`: checks, lists and clears a store. Nothing changes without `apply=true`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

from sega.errors import RequestError, answer, near
from sega.home import as_typed, command_line
from sega.store.cell_folder import base_folders, run_folders
from sega.store.claims import Claims, clock_difference
from sega.store.files import digest, file_sha, read_record, set_aside
from sega.store.mending import FAILED, ROWS, Finding, append_row, busy_files, drop_rows, row_findings, settle
from sega.store.png import agrees, own_row
from sega.store.rows import FAILED_KEYS, ROW_KEYS, read_rows
from sega.store.schema import ImageRow
from sega.store.screen import room, table

HELP = """usage: python -m sega.store verify|ls|gc [store=results/runs] [apply=true]

  verify   read every record and every image; say what is damaged, missing, of another cell, or has changed its meaning
  ls       a line for each cell: images, failed, size, workers at it
  gc       what workers that died left behind, images without records, empty folders

verify and gc only say what they would do; apply=true does it. verify then writes rows again from the images that carry
them, and drops the rows of damaged images, so that the next run makes these again; it never touches what is sound. gc
moves what it takes away to <store>/.removed/<date>, which you may delete. Exit status: 0 nothing found, 1 something
found, 2 a wrong request."""

STALE = 3600.0
"""Seconds without a change after which a scratch file that no worker claims is a leftover."""
KEYS = {"store": "results/runs", "apply": "false"}


Meaning = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any] | None]
"""From the configuration and the identity in a run.json: the identity that this configuration has today, or None."""


def main(words: list[str], meaning: Meaning) -> int:
    """Run the command line; returns the exit status.

    `meaning` tells what a recorded configuration means today. The store can't know it: rooms above it make the
    identity of a cell. None where it can't be told.
    """
    if {"-h", "--help", "help"} & set(words) or not words:
        print(as_typed(HELP))
        return 0 if words else 2
    return answer("sega.store", partial(_command, words, meaning))


def _command(words: list[str], meaning: Meaning) -> int:
    command, store, apply = _read(words)
    if command == "ls":
        return _list(store)
    findings = _verify(store, apply, meaning) if command == "verify" else _garbage(store, apply)
    return _report(findings, apply)


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
        print(f"{found} found; nothing was changed: apply=true does what follows the arrows")
    return int(found > mended)


def _list(store: Path) -> int:
    rows, width = [], room(sys.stdout)
    for cell in run_folders(store):
        model, method, size, name = cell.parts[-4:]
        done, failed = read_rows(cell / ROWS, ROW_KEYS)[0], read_rows(cell / FAILED, FAILED_KEYS)[0]
        latest = {row["file"]: row for row in done}
        left = {row["file"] for row in failed} - set(latest)
        megabytes = sum(path.stat().st_size for path in cell.iterdir() if path.is_file()) / 1e6
        last = max((str(row.get("finished", "")) for row in done), default="")
        standing = Claims(cell).standing()
        workers = {f"{body.get('host', '?')}:{body.get('pid', '?')}" for body in standing.values() if not body["dead"]}
        rows.append(
            (
                model,
                method,
                size,
                name,
                str(len(latest)),
                str(len(left)),
                f"{megabytes:.1f}",
                last if width is None else last[:16].replace("T", " "),
                " ".join(sorted(workers)),
            )
        )
    head = ("model", "method", "size", "hash", "images", "failed", "MB", "last", "workers")
    print(table(head, rows, width, keys=4, least=("MB", "last")), end="")
    return 0


def _verify(store: Path, apply: bool, meaning: Meaning) -> Iterator[Finding]:
    difference = clock_difference(store)
    if difference is not None and abs(difference) > 5:
        yield Finding(
            f"the clock of this machine is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} "
            f"that of {store}: times in records are off by that; claims do not depend on clocks"
        )
    for cell in run_folders(store):
        yield from _verify_record(cell, meaning)
        yield from _verify_rows(cell)
        if apply:
            settle(cell, Claims(cell))
    for folder in base_folders(store):
        yield from _verify_bases(folder)


def _verify_record(cell: Path, meaning: Meaning) -> Iterator[Finding]:
    path, record = cell / "run.json", read_record(cell / "run.json")
    if not path.exists():
        if (cell / ROWS).exists() or any(cell.glob("*.png")):
            yield Finding(f"{path} is missing; the next run of the cell writes it again")
        return
    identity = record.get("identity") if record else None
    if not isinstance(identity, dict):
        yield Finding(f"{path} is damaged; the next run of the cell writes it again")
        return
    if digest(identity) != cell.name:
        yield Finding(
            f"{path} describes cell {digest(identity)}, not the cell of its folder; move the folder out of the store"
        )
        return
    config = record.get("config") if record else None
    today = meaning(config, identity) if config and isinstance(config, dict) else None
    if today is not None and digest(today) != cell.name:
        yield Finding(
            f"{cell}: its configuration means {digest(today)} today (defaults or methods have changed since); its "
            "images are kept; running the command again starts a new folder"
        )


def _verify_rows(cell: Path) -> Iterator[Finding]:
    claims = Claims(cell)
    yield from row_findings(cell, claims)
    rows = {row["file"]: row for row in read_rows(cell / ROWS, ROW_KEYS)[0]}
    busy = busy_files(claims)
    for name in sorted(rows.keys() | {path.name for path in cell.glob("*.png")}):
        if name not in busy:
            yield from _verify_image(cell / name, cast(ImageRow | None, rows.get(name)), claims)
    scores = cell / "scores.json"
    if scores.exists() and read_record(scores) is None:
        yield Finding(f"{scores} is damaged; {command_line('eval')} scores the cell again")


def _verify_image(image: Path, row: ImageRow | None, claims: Claims) -> Iterator[Finding]:
    trouble = None
    if image.is_symlink() or image.is_dir():
        trouble = f"is a {'link' if image.is_symlink() else 'folder'} and not an image"
    elif not image.exists():
        trouble = f"is missing although {ROWS} lists it"
    elif row is None or file_sha(image) != row["sha256"] or not agrees(image, row):
        own = own_row(image)
        if own:
            what = f"has no row in {ROWS}" if row is None else f"carries another row than {ROWS} has"
            yield Finding(
                f"{image} {what}", "written again from the image", partial(append_row, image.parent / ROWS, claims, own)
            )
            return
        trouble = "is damaged"
    if row is None:
        return  # nothing can tell whether it is whole: gc
    if trouble:
        remedy = "its row is dropped, and the next run makes it again"
        yield Finding(f"{image} {trouble}", remedy, partial(drop_rows, image.parent / ROWS, claims, row["file"]))
        return
    if _seconds(row.get("finished")) > time.time() + 60:
        yield Finding(f"{image} is of a later time than now ({row['finished']}): the clock of its worker was ahead")
    steps = row.get("steps")
    for name, sha in steps.items() if isinstance(steps, dict) else ():
        path = image.parent / name
        if not path.is_file() or file_sha(path) != sha:
            yield Finding(f"{path} is {'damaged' if path.exists() else 'missing'}; a run with record= makes it again")


def _seconds(text: Any) -> float:
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return 0.0


def _verify_bases(folder: Path) -> Iterator[Finding]:
    from sega.store.tensors import DamagedError, read

    record = read_record(folder / "base.json")
    if record is None or digest(record) != folder.name:
        yield Finding(f"{folder / 'base.json'} is missing or damaged; the next run that needs it writes it again")
    for path in sorted(folder.glob("*.safetensors")):
        try:
            read(path)
        except DamagedError as error:
            aside = partial(set_aside, path)
            yield Finding(f"{path} is damaged ({error})", "set aside in .removed, and made again when needed", aside)


def _garbage(store: Path, apply: bool) -> Iterator[Finding]:
    places = [*run_folders(store), *base_folders(store)]
    away = partial(set_aside, root=store)
    to = f"moved to {store / '.removed'}"
    for folder in places:
        claims = Claims(folder)
        dead = [name for name, body in claims.standing().items() if body["dead"]]
        for path in sorted(folder.glob(".*.tmp")):
            if _is_litter(path, dead):
                yield Finding(f"{path}: left by a worker that died", to, partial(away, path))
        for name in dead:
            yield Finding(f"{folder / '.claims' / name}: its worker has died", "removed", claims.sweep)
    for cell in run_folders(store):
        yield from _orphans(cell, away, to)
        if apply and (cell / ROWS).exists():
            settle(cell, Claims(cell))
        if not any(cell.iterdir()):
            yield Finding(f"{cell} is empty", "removed", cell.rmdir)


def _orphans(cell: Path, away: Callable[[Path], Path], to: str) -> Iterator[Finding]:
    """Images without a row. Where they are most of a cell it is the record that is wrong, and nothing is moved."""
    claims = Claims(cell)
    listed, busy = {row["file"] for row in read_rows(cell / ROWS, ROW_KEYS)[0]}, busy_files(claims)
    images = [path for path in sorted(cell.glob("*.png")) if path.is_file()]
    orphans = [path for path in images if path.name not in listed | busy]
    own = {path: row for path in orphans if (row := own_row(path))}
    bare = [path for path in orphans if path not in own]
    for path, row in own.items():
        text = f"{path}: no row of {ROWS} names it, and it carries its own"
        yield Finding(text, "its row is written again", partial(append_row, cell / ROWS, claims, row))
    if bare and 2 * len(bare) > len(images):
        yield Finding(
            f"{cell}: no row of {ROWS} names {len(bare)} of its {len(images)} images; most of a cell is "
            f"never taken away: bring {ROWS} back, or move the images yourself"
        )
        return
    for path in bare:
        yield Finding(f"{path}: no row of {ROWS} names it", to, partial(away, path))


def _is_litter(scratch: Path, dead: list[str]) -> bool:
    """Whether nobody is writing a scratch file `.<name>.<digits>.tmp`: its worker died, or it is old and unclaimed."""
    name = scratch.name[1:].rsplit(".", 2)[0]
    if any(name.startswith(Path(claimed).stem) for claimed in busy_files(Claims(scratch.parent))):
        return False
    ahead = clock_difference(scratch.parent) or 0.0
    old = time.time() - ahead - scratch.stat().st_mtime > STALE
    return old or any(name.startswith(Path(claimed).stem) for claimed in dead)
