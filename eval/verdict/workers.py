"""Processes that take parts of a work: their output goes to files, and what fails does not stop the rest."""

from __future__ import annotations

import math
import os
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from threading import Thread
from typing import Any


class Workers:
    """`count` processes; with one, this process does the work. What others print goes to files in `logs`."""

    def __init__(self, count: int, logs: Path):
        self.count, self.logs = count, logs
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def run(self, function: Callable[..., Any], parts: Sequence[tuple[Any, ...]], end: float) -> int:
        """Call a function, which returns an exit status, with each part. Returns how many failed.

        Errors are printed, and the rest goes on. After `end`, in the seconds of `time.monotonic`, no part is begun.
        """
        if time.monotonic() > end:
            return 0
        submit = _here(end) if self.count == 1 else self._open().submit
        futures = [submit(function, *part) for part in parts]
        _, late = wait(futures, None if end == math.inf else max(end - time.monotonic(), 0))
        for future in late:
            future.cancel()
        failed = 0
        for future in futures:
            if future.cancelled():
                continue
            error = future.exception()
            if isinstance(error, BrokenProcessPool):  # a process was killed: the next call begins with new ones
                print(f"a process ended, and what it and the others had left was not done: {error}", flush=True)
                self._close()
                return failed + 1
            if error is not None:
                traceback.print_exception(error)
            failed += bool(error or future.result())
        return failed

    def _open(self) -> ProcessPoolExecutor:
        from multiprocessing import get_context

        if self._pool is None:
            os.environ.setdefault("OMP_NUM_THREADS", "1")
            self._pool = ProcessPoolExecutor(self.count, get_context("spawn"), _begin, (str(self.logs),))
        return self._pool

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _here(end: float) -> Callable[..., Future[Any]]:
    """Return what calls a function in this process, and returns its future, done or cancelled."""

    def submit(function: Callable[..., Any], *part: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if time.monotonic() > end:
            future.cancel()
            return future
        try:
            future.set_result(function(*part))
        except Exception as error:  # as in another process: it fails its part alone
            future.set_exception(error)
        return future

    return submit


def _begin(folder: str) -> None:
    """Send what this process prints into a file of its own, as the progress of many cells is no reading; and end with
    the process that began it, which nothing else tells it if that one is killed.
    """
    from multiprocessing import parent_process

    parent = parent_process()
    assert parent is not None
    Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    file = os.open(path / f"{os.getpid()}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
