"""First Ctrl-C: finish the image in flight, then stop. Second Ctrl-C, or a termination signal: stop now, in order."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


class Stop:
    """Records whether a command was interrupted."""

    def __init__(self) -> None:
        self.requested = False
        self._in_flight = False
        self._patient = False

    def request(self) -> None:
        """Stop after what is in flight, as the first Ctrl-C does."""
        self.requested = True

    @contextlib.contextmanager
    def in_flight(self) -> Iterator[None]:
        """Mark a block that an interrupt should let finish."""
        self._in_flight = True
        try:
            yield
        finally:
            self._in_flight = False

    @contextlib.contextmanager
    def handled(self, patient: bool = False) -> Iterator[None]:
        """Take the signals over for a block. `patient` processes wait for others, which get the signal themselves."""
        ours = signal.getsignal(signal.SIGINT) == self._on_interrupt
        if ours or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._patient = patient
        before = {signal.SIGINT: signal.signal(signal.SIGINT, self._on_interrupt)}
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # launchers have their own way with it
            before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _on_terminate)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_interrupt(self, number, frame) -> None:
        if self.requested or not (self._in_flight or self._patient):
            self.requested = True
            raise KeyboardInterrupt
        self.requested = True
        what = "waiting for the images of the workers" if self._patient else "finishing the image in flight"
        # Not print: a buffered stream may be in use right now.
        os.write(2, f"\n{what}; press Ctrl-C again to stop at once\n".encode())


def _on_terminate(number, frame) -> None:
    raise KeyboardInterrupt
