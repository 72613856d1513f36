"""Progress on stderr: one moving line on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time


class Progress:
    """Counts images of one cell."""

    def __init__(self, label: str, total: int, every: float = 10.0):
        self.label, self.total, self.every = label, total, every
        self.done, self.made, self.started, self.last = 0, 0, time.perf_counter(), time.perf_counter()
        self.terminal = sys.stderr.isatty()

    def step(self, made: bool) -> None:
        """One image is there; `made` tells whether it was made now."""
        self.done, self.made = self.done + 1, self.made + made
        now = time.perf_counter()
        if self.done == self.total:
            return
        if self.terminal or now - self.last > self.every:
            self.last = now
            left = (now - self.started) / max(self.made, 1) * (self.total - self.done)
            self._write(f"{self.label}  {self.done}/{self.total} images  about {clock(left)} left")

    def warn(self, text: str) -> None:
        if self.terminal:
            sys.stderr.write("\r\033[K")
        print(f"warning: {text}", file=sys.stderr)

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\033[K{text}" if self.terminal else f"{text}\n")
        sys.stderr.flush()

    def close(self) -> None:
        if self.terminal:
            sys.stderr.write("\r\033[K")


def clock(seconds: float) -> str:
    """12 s, 3:07 min, 2:05:09 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d} h"
