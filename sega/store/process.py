"""Identify processes of this machine by boot and start time, and check whether they run. Uses /proc of Linux."""

from __future__ import annotations

import functools
import os
from pathlib import Path


@functools.cache
def machine() -> str | None:
    """A name of the running system whose process ids are ours; None where that can't be known.

    It is the id of this boot and the namespace of process ids, so two containers of one machine differ.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def born(pid: object) -> str | None:
    """When a process started, in ticks since boot; None if it has exited or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, started = fields[0], fields[19]
    return None if state in "ZX" else started


def is_running(pid: object, birth: object) -> bool:
    """Whether the process `pid` that started at `birth` still runs: another process may have its number by now."""
    return birth is not None and born(pid) == birth
