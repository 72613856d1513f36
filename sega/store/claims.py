"""Claims: who makes what, on any shared file system, without a server and without comparing clocks.

A claim on `name` is the file `.claims/<name>.<n>`, created exclusively. Its worker touches it for as long as it lives.
Whoever knows its process to be gone (same machine), or sees it untouched for its lease by his own clock, takes over
by creating `<name>.<n+1>` exclusively; the highest number holds. So two can't take over at once, and a worker that
was only asleep finds out before it writes.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import json
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sega.store.files import set_aside

LEASE = 60.0
"""Seconds without a sign of life after which a worker counts as dead."""


@dataclass(frozen=True)
class Claim:
    """A claim of ours; `inherited` when its last holder died."""

    folder: Path
    name: str
    number: int
    inherited: bool

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.{self.number}"

    def holds(self) -> bool:
        """Whether nobody has taken over, as others may when this worker was asleep for longer than its lease."""
        return max(_numbers(self.folder, self.name), default=-1) == self.number

    def release(self) -> None:
        _held.pop(self.path, None)
        for number in sorted(_numbers(self.folder, self.name)):
            if number <= self.number:
                _remove(self.folder / f"{self.name}.{number}")


class Claims:
    """Claims in one folder, as one worker sees them. It remembers since when it has seen others' unchanged."""

    def __init__(self, folder: Path, lease: float = LEASE):
        self.folder, self.lease = folder / ".claims", lease
        self._seen: dict[Path, tuple[Any, float]] = {}

    def take(self, name: str) -> Claim | None:
        """The claim, or None while a worker that lives, as far as one knows, holds it."""
        top = max(_numbers(self.folder, name), default=-1)
        last = None if top < 0 else self.folder / f"{name}.{top}"
        look = _look(last) if last else None
        if last and (look is None or not self._is_dead(last, look)):
            return None
        claim = Claim(self.folder, name, top + 1, inherited=bool(last))
        if not _create(claim.path, self.lease):
            return None
        _beat(claim.path, self.lease)
        # A slower look at an older state of things must not stand beside a newer claim.
        if not claim.holds() or (last and (_look(last) or (None,))[0] != look[0]):
            _held.pop(claim.path, None)
            _remove(claim.path)
            return None
        return claim

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
            if claim and claim.inherited:  # what the dead left half written, see `sega.store.cell_folder.whole`
                for scratch in self.folder.parent.glob(f".{glob.escape(Path(name).stem)}.*.tmp"):
                    scratch.unlink(missing_ok=True)
            yield claim
        finally:
            if claim:
                claim.release()

    def standing(self) -> dict[str, dict[str, Any]]:
        """What stands in the highest claim of each name; `dead` in it as far as can be told at once."""
        found = {}
        for name in sorted({name for name, _ in _listed(self.folder)}):
            path = self.folder / f"{name}.{max(_numbers(self.folder, name), default=0)}"
            look = _look(path)
            if look:
                found[name] = _body(look[0]) | {"dead": self._is_dead(path, look)}
        return found

    def sweep(self) -> None:
        """Remove the claims of the dead, and the folder when that leaves none."""
        for name in {name for name, _ in _listed(self.folder)}:
            with self.hold(name):
                pass
        with contextlib.suppress(OSError):  # claims of the living, or gone already
            self.folder.rmdir()

    def _is_dead(self, path: Path, look: tuple[str, int]) -> bool:
        body = _body(look[0])
        if body.get("machine") == _machine() is not None and not _runs(body.get("pid"), body.get("born")):
            return True
        first = self._seen.get(path)
        if first is None or first[0] != look:
            self._seen[path] = (look, time.monotonic())
            return False
        lease = body.get("lease")
        return time.monotonic() - first[1] > (lease if isinstance(lease, int | float) else self.lease)


def _listed(folder: Path) -> list[tuple[str, int]]:
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    pairs = [name.rpartition(".") for name in names]
    return [(name, int(number)) for name, _, number in pairs if number.isdecimal() and number.isascii()]


def _numbers(folder: Path, name: str) -> list[int]:
    return [number for other, number in _listed(folder) if other == name]


def _look(path: Path) -> tuple[str, int] | None:
    """Content and time of a claim. It is opened first, since network file systems only then ask the server."""
    try:
        with path.open(errors="replace") as file:
            return file.read(), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None
    except IsADirectoryError:  # no worker made it; it goes as the claim of one that says nothing
        return "", 0


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


def _create(path: Path, lease: float) -> bool:
    body = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "machine": _machine(),
        "born": _born(os.getpid()),
        "token": secrets.token_hex(8),
        "lease": lease,
    }
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
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as file:
            os.utime(file.name)
            return time.time() - os.stat(file.name).st_mtime
    except OSError:
        return None


_held: dict[Path, float] = {}
_heart: list[threading.Thread] = []
_woken = threading.Event()


def _beat(path: Path, lease: float) -> None:
    """Have a claim touched four times in its lease until it is released."""
    _held[path] = lease
    _woken.set()
    if not _heart or not _heart[0].is_alive():
        _heart[:] = [threading.Thread(target=_live, daemon=True, name="claims")]
        _heart[0].start()


def _live() -> None:
    while True:
        _woken.wait(min(_held.values(), default=LEASE) / 4)
        _woken.clear()
        for path in list(_held):
            try:
                os.utime(path)
            except OSError:  # taken over, or the store is gone: `holds` tells before anything is written
                _held.pop(path, None)


os.register_at_fork(after_in_child=_held.clear)


@functools.cache
def _machine() -> str | None:
    """Names the running system whose process numbers are ours; None where that can't be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _born(pid: int) -> str | None:
    """When a process started, in ticks since boot, and None when it is gone or only waits to be buried."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _runs(pid: Any, born: Any) -> bool:
    return born is not None and _born(pid) == born
