"""Progress on stderr: one moving line on a terminal, now and then a line elsewhere.

Counts come from the store, so they hold whatever other workers do meanwhile.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sega.store import RunFolder


@dataclass(frozen=True)
class Count:
    """Images of a cell or of a whole sweep."""

    total: int
    done: int
    failed: int

    @property
    def left(self) -> int:
        return self.total - self.done - self.failed


@dataclass
class Sweep:
    """The images that a command asks for, over all its cells."""

    cells: dict[str, tuple[RunFolder, set[str]]] = field(default_factory=dict)  # by path: folder, file names

    def add(self, folder: RunFolder, names: list[str]) -> None:
        """Several cells of a command may be one folder, with other prompts each."""
        self.cells.setdefault(str(folder.path), (folder, set()))[1].update(names)

    def count(self) -> Count:
        counts = [count(folder, names) for folder, names in self.cells.values()]
        return Count(*(sum(getattr(item, key) for item in counts) for key in ("total", "done", "failed")))

    def failures(self) -> list[RunFolder]:
        """Cells with failed images."""
        return [folder for folder, names in self.cells.values() if names & set(folder.failed())]


def count(folder: RunFolder, names: set[str]) -> Count:
    """Images of one cell as its records say."""
    return Count(len(names), len(names & set(folder.rows())), len(names & set(folder.failed())))


class Progress:
    """What one worker says of one cell; with `sweep`, of the rest too. `plain` leaves the cursor alone."""

    def __init__(
        self, label: str, now: Callable[[], Count], sweep: Sweep | None = None, plain: bool = False, every: float = 10.0
    ):  # fmt: skip
        self.label, self.now, self.every = label, now, every
        self.sweep = sweep if sweep and len(sweep.cells) > 1 else None
        self.made, self.started, self.last = 0, time.perf_counter(), time.perf_counter()
        self.before = now()
        self.sweep_before = self.sweep.count() if self.sweep else None
        self.terminal = sys.stderr.isatty() and not plain

    def step(self, made: bool) -> None:
        """One image is through; `made` tells whether it was made here and now."""
        self.made += made
        if self.terminal or time.perf_counter() - self.last > self.every:
            self.last = time.perf_counter()
            text = f"{self.label}  {self.line()}"
            sys.stderr.write(f"\r\033[K{text}" if self.terminal else f"{text}\n")
            sys.stderr.flush()

    def line(self) -> str:
        """Done, left and failed; rates of this worker and of all; time left."""
        seconds, now = time.perf_counter() - self.started, self.now()
        parts = [counts(now), f"{self.made} here at {rate(self.made, seconds)}"]
        everyone = now.done + now.failed - self.before.done - self.before.failed
        if everyone > self.made:
            parts.append(f"all workers {rate(everyone, seconds)}")
        parts += left(now, everyone, seconds)
        if self.sweep:
            every = self.sweep.count()
            parts.append(
                "in total " + ", ".join([counts(every), *left(every, _news(self.sweep_before, every), seconds)])
            )
        return "; ".join(parts)

    def warn(self, text: str) -> None:
        if self.terminal:
            sys.stderr.write("\r\033[K")
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.terminal:
            sys.stderr.write("\r\033[K")


@contextlib.contextmanager
def watched(sweep: Sweep, every: float = 10.0) -> Iterator[None]:
    """Say now and then how far a sweep is whose workers are other processes."""
    over, started, before = threading.Event(), time.perf_counter(), sweep.count()

    def watch() -> None:
        last = before
        while not over.wait(every):
            now = sweep.count()
            if now != last:
                seconds, last = time.perf_counter() - started, now
                words = [counts(now), *left(now, _news(before, now), seconds)]
                print(f"in total  {'; '.join(words)}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _news(before: Count, now: Count) -> int:
    return now.done + now.failed - before.done - before.failed


def counts(now: Count) -> str:
    failed = f", {now.failed} failed" if now.failed else ""
    return f"{now.done}/{now.total} images, {now.left} left{failed}"


def left(now: Count, news: int, seconds: float) -> list[str]:
    """The time left in words, when there is anything to tell it by."""
    return [f"about {clock(seconds / news * now.left)} left"] if news > 0 and now.left else []


def rate(images: int, seconds: float) -> str:
    """2.5/s, 12/min, 7.1/h."""
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        value = images / max(seconds, 1e-9) * length
        if value >= 1 or unit == "h":
            return f"{value:.2g}/{unit}" if value < 100 else f"{value:.0f}/{unit}"
    raise AssertionError


def clock(seconds: float) -> str:
    """12 s, 3:07 min, 2:05:09 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d} h"
