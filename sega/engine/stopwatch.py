"""Time a call without waiting for a GPU."""

from __future__ import annotations

import time
from typing import Any

import torch


class Stopwatch:
    """Runs from its making to `stop`: by the clock, or on a GPU by events in its queue, which are read afterwards."""

    def __init__(self, device: torch.device):
        self.device = device
        self.begun, self.ended = self._mark(), None

    def stop(self) -> None:
        self.ended = self._mark()

    def seconds(self) -> float:
        """The seconds between; waits until a GPU has finished."""
        if self.device.type != "cuda":
            return self.ended - self.begun
        self.ended.synchronize()
        return self.begun.elapsed_time(self.ended) / 1000

    def _mark(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event
