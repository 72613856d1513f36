"""Claims decide which worker makes an image, on any shared file system, without a server or equal clocks.

A claim on `name` is the file `.claims/<name>.<n>`, created exclusively. Its worker touches it for as long as it lives.
Whoever knows its process to be gone (same machine), or sees it untouched for its lease by its own clock, takes over
by creating `<name>.<n+1>` exclusively; the highest number holds. So two can't take over at once, and a worker that
was only asleep finds out before it writes.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sega.store import process
from sega.store.files import set_aside
from sega.store.heartbeat import Heartbeat

LEASE = 60.0
"""Seconds without a sign of life after which a worker counts as dead."""


class Look(NamedTuple):
    """The content of a claim file when it was read."""

    text: str
    changed: int  # modification time in ns, by the clock of the file system


@dataclass(frozen=True)
class Claim:
    """A claim of ours; `inherited` when its last holder died."""

    folder: Path
    name: str
    number: int
    inherited: bool
    heartbeat: Heartbeat = field(repr=False, compare=False)

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.{self.number}"

    def holds(self) -> bool:
        """Return whether no other worker has taken over, as happens if this one slept for longer than its lease."""
        return _top(self.folder, self.name) == self.number

    def release(self) -> None:
        self.heartbeat.stop()
        for number in sorted(_numbers(self.folder, self.name)):
            if number <= self.number:
                _remove(self.folder / f"{self.name}.{number}")


class Claims:
    """Claims in one folder, as one worker sees them. It remembers since when it has seen others' unchanged.

    `lease` is in seconds. `about` is written into every claim from here on, besides host and process: what this
    worker says of itself. The caller may change it meanwhile.
    """

    def __init__(self, folder: Path, lease: float = LEASE):
        self.folder, self.lease = folder / ".claims", lease
        self._seen: dict[Path, tuple[Look, float]] = {}  # by claim: its last look, and when it was first seen so

    def take(self, name: str) -> Claim | None:
        """The claim, or None while another worker that seems to be alive holds it."""
        top, before = _top(self.folder, name), None
        last = self.folder / f"{name}.{top}"
        if top >= 0:
            before = _look(last)
            if before is None or not self._is_dead(last, before):
                return None
        path = self.folder / f"{name}.{top + 1}"
        if not _create(path, self._body()):
            return None
        claim = Claim(self.folder, name, top + 1, before is not None, Heartbeat(path, self.lease))
        if claim.holds() and (before is None or _has_text(last, before.text)):
            return claim
        # Another worker was quicker: it took over too, or it did and has finished, and `last` is a newer claim.
        claim.heartbeat.stop()
        _remove(path)
        return None

    def _body(self) -> dict[str, Any]:
        """What stands in a new claim of this process."""
        return {
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "machine": process.machine(),
            "born": process.born(os.getpid()),
            "token": secrets.token_hex(8),
            "lease": self.lease,
        }

    @contextlib.contextmanager
    def hold(self, name: str, wait: bool = False) -> Iterator[Claim | None]:
        """Hold a claim for the length of a block; None when another has it and `wait` is false.

        What a dead worker left half written of the file is removed.
        """
        pause, claim = 0.002, self.take(name)
        while claim is None and wait:
            time.sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))
            pause = min(pause * 1.5, 1.0, self.lease / 4)
            claim = self.take(name)
        try:
            if claim and claim.inherited:  # what the dead left half written, see `sega.store.files.atomic`
                for scratch in self.folder.parent.glob(f".{glob.escape(Path(name).stem)}.*.tmp"):
                    scratch.unlink(missing_ok=True)
            yield claim
        finally:
            if claim:
                claim.release()

    def standing(self) -> dict[str, dict[str, Any]]:
        """Return the content of the newest claim of each name, with `dead` as far as it can be known at once."""
        found = {}
        for name in sorted({name for name, _ in _listed(self.folder)}):
            path = self.folder / f"{name}.{max(_top(self.folder, name), 0)}"
            look = _look(path)
            if look:
                found[name] = _body(look.text) | {"dead": self._is_dead(path, look)}
        return found

    def sweep(self) -> None:
        """Remove the claims of the dead, and the folder when that leaves none."""
        for name in {name for name, _ in _listed(self.folder)}:
            with self.hold(name):
                pass
        with contextlib.suppress(OSError):  # claims of the living, or gone already
            self.folder.rmdir()

    def _is_dead(self, path: Path, look: Look) -> bool:
        body = _body(look.text)
        here = process.machine()
        if (
            here is not None
            and body.get("machine") == here
            and not process.is_running(body.get("pid"), body.get("born"))
        ):
            return True
        seen, since = self._seen.get(path, (None, 0.0))
        if seen != look:
            self._seen[path] = look, time.monotonic()
            return False
        lease = body.get("lease")
        return time.monotonic() - since > (lease if isinstance(lease, int | float) else self.lease)


def _listed(folder: Path) -> list[tuple[str, int]]:
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    pairs = [name.rpartition(".") for name in names]
    return [(name, int(number)) for name, _, number in pairs if number.isdecimal() and number.isascii()]


def _numbers(folder: Path, name: str) -> list[int]:
    return [number for other, number in _listed(folder) if other == name]


def _top(folder: Path, name: str) -> int:
    """The highest number of a claim, which holds; -1 where there is none."""
    return max(_numbers(folder, name), default=-1)


def _look(path: Path) -> Look | None:
    """Content and time of a claim. It is opened first, since network file systems only then ask the server."""
    try:
        with path.open(errors="replace") as file:
            return Look(file.read(), os.fstat(file.fileno()).st_mtime_ns)
    except FileNotFoundError:
        return None
    except IsADirectoryError:  # no worker made it; it goes as the claim of one that says nothing
        return Look("", 0)


def _has_text(path: Path, text: str) -> bool:
    look = _look(path)
    return look is not None and look.text == text


def _body(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):  # its worker died, or is just about to write it
        return {}
    return body if isinstance(body, dict) else {}


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except (IsADirectoryError, PermissionError):
        set_aside(path, path.parent.parent)


def _create(path: Path, body: dict[str, Any]) -> bool:
    while True:
        try:
            file = open(path, "x")
        except FileExistsError:
            return False
        except FileNotFoundError:  # the folder: nobody has claimed yet, or the last one just took it away
            path.parent.mkdir(parents=True, exist_ok=True)
            continue
        except NotADirectoryError:  # a file in its place
            set_aside(path.parent)
            continue
        try:
            with file:
                file.write(json.dumps(body))
        except OSError:  # a full disk: nobody holds this
            path.unlink(missing_ok=True)
            raise
        return True


def clock_difference(folder: Path) -> float | None:
    """Seconds by which this machine's clock is ahead of that of a folder's file system; None if it can't be written."""
    import tempfile

    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as file:
            os.utime(file.name)
            return time.time() - os.stat(file.name).st_mtime
    except OSError:
        return None
