"""Progress on stderr: one moving line on a terminal, a line every ten seconds elsewhere.

Counts come from the store, so they hold whatever other workers do meanwhile. The time left weighs each image by what
its cell costs (`sega.run.cost.stage_work`), so a sweep over sizes and methods knows it from the first image on.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from sega.run import terminal
from sega.run.quantities import clock, rate
from sega.run.sweep import Count, Share, Sweep, work_done, work_left

OFTEN = 0.1
"""Seconds between two movements of the line."""


class Progress:
    """What one worker says of one cell, and of the sweep it belongs to. `plain` leaves the cursor alone.

    `stages` are the steps and the work of each stage of an image.
    """

    def __init__(
        self,
        label: str,
        share: Share,
        sweep: Sweep | None = None,
        stages: Sequence[tuple[int, float]] = ((1, 1.0),),
        plain: bool = False,
        every: float = 10.0,
    ):
        self.label, self.share, self.stages, self.every = label, share, list(stages), every
        self.sweep = sweep or Sweep({str(share.folder.path): share})
        self.line = terminal.Line(sys.stderr) if sys.stderr.isatty() and not plain else None
        self.made, self.stage, self.taken, self.started = 0, 0, 0, None
        self.writing = 0
        self.said = time.perf_counter()
        self._look()
        self.before = self.now
        if self.sweep.before is None:
            self.sweep.before = work_done(self.counts)

    def begin(self) -> None:
        """Images are made from here on: what was spent on loading is not part of any rate."""
        self.started = time.perf_counter()
        self.next()

    def next(self, writing: int = 0) -> None:
        """Another image is begun while so many are being written."""
        self.writing = writing
        self.stage = self.taken = 0
        self._show(always=True)

    def step(self, stage: int, taken: int) -> None:
        """`taken` steps of a stage of the image are done."""
        self.stage, self.taken = stage, taken
        self._show()

    def done(self, made: bool) -> None:
        """One image is finished; `made` is true if this worker made it now."""
        self.made += made
        self.stage = self.taken = 0
        self._look()
        if self.now.left:
            self._show(always=True)

    def parts(self) -> list[tuple[int, str]]:
        """What the line says in order, each part with its rank: the last ranks go first where room is short."""
        now, (taken, steps) = self.now, self._steps()
        number = min(now.done + now.failed + self.writing + 1, now.total)
        found = [(1, f"image {number} of {now.total}"), (3, f"step {taken} of {steps}")]
        seconds, everyone = self._seconds(), now.done + now.failed - self.before.done - self.before.failed
        if self.made and seconds:
            found.append((4, rate(self.made, seconds)))
        if everyone > self.made and seconds > 1:  # what others finish as this one begins tells no rate
            found.append((6, f"all workers {rate(everyone, seconds)}"))
        if (left := self.time_left()) is not None:
            found.append((2, f"about {clock(left)} left"))
        total = Count(*(sum(getattr(item, key) for item, _ in self.counts) for key in ("total", "done", "failed")))
        if len(self.counts) > 1:
            found.append((7, f"{total.done} of {total.total} in all"))
        return found + ([(5, f"{total.failed} failed")] if total.failed else [])

    def time_left(self) -> float | None:
        """Estimate the seconds until the sweep is finished from its work; None before a fifth of an image."""
        part = self._fraction()
        work = work_done(self.counts) - self.sweep.before + part * self.share.work
        left = work_left(self.counts) - part * self.share.work
        seconds = self.sweep.seconds + self._seconds()
        if work < 0.2 * self.share.work or seconds < 0.1 or left <= 0:
            return None
        return seconds / work * left

    def warn(self, text: str) -> None:
        self.note(f"warning: {text}")

    def note(self, text: str, once: bool = False) -> None:
        """A sentence above the line; with `once`, one for a command."""
        if once and text in self.sweep.said:
            return
        self.sweep.said.add(text)
        if self.line:
            self.line.clear()
        print(text, file=sys.stderr, flush=True)
        if self.line:
            self.line.again()

    def wait(self, what: str) -> None:
        """On a terminal, what goes on while no image is made here."""
        if self.line:
            self.line.show(self.label, [(1, what)])

    def close(self) -> None:
        """The cell is finished."""
        if self.line:
            self.line.clear()
        self.sweep.seconds += self._seconds()
        self.started = None

    def _look(self) -> None:
        self.now, self.counts, self.looked = self.share.count(), self.sweep.counts(), time.perf_counter()

    def _seconds(self) -> float:
        return 0.0 if self.started is None else time.perf_counter() - self.started

    def _steps(self) -> tuple[int, int]:
        """Steps taken and steps of an image, over all its stages."""
        before = sum(steps for steps, _ in self.stages[: self.stage])
        return before + self.taken, sum(steps for steps, _ in self.stages)

    def _fraction(self) -> float:
        """Share of the image's work that is done."""
        steps, work = self.stages[self.stage]
        done = sum(work for _, work in self.stages[: self.stage]) + work * self.taken / max(steps, 1)
        return done / sum(work for _, work in self.stages)

    def _show(self, always: bool = False) -> None:
        now = time.perf_counter()
        if self.line:
            if not always and now - self.said < OFTEN:
                return
        elif now - self.said < self.every:
            return
        self.said = now
        if now - self.looked >= self.every:  # others may have made some
            self._look()
        if self.line:
            self.line.show(self.label, self.parts())
        else:
            print(f"{self.label}  {', '.join(text for _, text in self.parts())}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def watched(sweep: Sweep, every: float = 10.0) -> Iterator[None]:
    """Say now and then how far a sweep is whose workers are other processes."""
    over, started, before = threading.Event(), time.perf_counter(), work_done(sweep.counts())

    def watch() -> None:
        last = before
        while not over.wait(every):
            found = sweep.counts()
            work = work_done(found)
            if work != last:
                seconds, last, now = time.perf_counter() - started, work, sweep.count()
                words = [f"{now.done} of {now.total} images"] + ([f"{now.failed} failed"] if now.failed else [])
                if now.left and work > before:
                    words.append(f"about {clock(seconds / (work - before) * work_left(found))} left")
                print(f"in total  {', '.join(words)}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
