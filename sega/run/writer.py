"""Write finished images in a thread while the next one is made.

Encoding a PNG takes 0.2 s at 1024 px and 3 s at 4096 px, in which a GPU would wait; it lets other threads run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Generic, TypeVar

T = TypeVar("T")


class Writer(Generic[T]):
    """Runs jobs one after the other, in the order in which they are handed over."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._jobs: deque[Future[T]] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def hand(self, job: Callable[[], T], held: ExitStack) -> None:
        """Run a job; `held` is what it needs until it is done (the claim of its image), whether or not it fails."""

        def run() -> T:
            with held:
                return job()

        self._jobs.append(self._pool.submit(run))

    def collect(self, left: int = 0) -> Iterator[T]:
        """The results of jobs in their order, waiting for all but the last `left`. Raises what a job has raised."""
        while self._jobs and (len(self._jobs) > left or self._jobs[0].done()):
            yield self._jobs.popleft().result()

    def close(self) -> list[T]:
        """Wait for all jobs; the results that nobody has collected. Errors are dropped: an earlier one is known."""
        self._pool.shutdown()
        return [job.result() for job in self._jobs if not job.exception()]
