"""Ctrl-C: once ends after the image in flight, twice at once. A termination signal ends at once, and in order."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

_state = {"asked": False, "in_flight": False, "patient": False}


def asked() -> bool:
    """Whether this process has been asked to end."""
    return _state["asked"]


def ask() -> None:
    """End after what is in flight, as the first Ctrl-C would."""
    _state["asked"] = True


def forget() -> None:
    """A new command begins."""
    _state["asked"] = False


@contextlib.contextmanager
def in_flight() -> Iterator[None]:
    """Something worth finishing goes on."""
    _state["in_flight"] = True
    try:
        yield
    finally:
        _state["in_flight"] = False


@contextlib.contextmanager
def handled(patient: bool = False) -> Iterator[None]:
    """Take the signals over for a block. `patient` processes wait for others, which get the signal themselves."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is _on_interrupt:
        yield
        return
    _state["patient"] = patient
    before = {signal.SIGINT: signal.signal(signal.SIGINT, _on_interrupt)}
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # launchers have their own way with it
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _on_terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_interrupt(number, frame) -> None:
    if _state["asked"] or not (_state["in_flight"] or _state["patient"]):
        _state["asked"] = True
        raise KeyboardInterrupt
    _state["asked"] = True
    what = "waiting for the workers' images" if _state["patient"] else "finishing the image in flight"
    os.write(2, f"\n{what}; Ctrl-C again ends at once\n".encode())  # a buffered stream may be in use right now


def _on_terminate(number, frame) -> None:
    raise KeyboardInterrupt
