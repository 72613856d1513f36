"""How many images a second several processes of run.py make on one GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench.record import Part

ROOT = Path(__file__).resolve().parents[2]
LINE = ["-m", "model=tiny", "method=sega", "res=2x", "model.dtype=bfloat16", "prompts.count=64"]
SEEDS = 40  # with the prompts, more images than any process makes meanwhile
START = 45  # seconds after which a process that has made no image is taken for failed


@dataclass
class Worker:
    """A process of run.py with a store of its own."""

    store: Path
    process: subprocess.Popen[bytes]

    def times(self) -> list[float]:
        """When its images were finished, by the clock of files."""
        return sorted(path.stat().st_mtime for path in self.store.glob("*/*/*/*/*.png"))


def stop(workers: list[Worker]) -> None:
    """End processes, at once where they do not end in order: what runs on would disturb what is measured next."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        try:
            worker.process.wait(5)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


def start(number: int, device: str, folder: Path, line: list[str]) -> Worker:
    """Start one process."""
    store, seeds = folder / str(number), ",".join(map(str, range(SEEDS)))
    words = [sys.executable, "run.py", *line, f"device={device}", f"seeds=[{seeds}]", f"store={store}"]
    with open(folder / f"{number}.log", "w") as log:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        return Worker(store, subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, env=environment))


def measure(
    part: Part, device: str, folder: Path, counts: list[int], span: float, line: list[str] | None = None
) -> None:
    """Add a row for each number of processes; all start together, and fewer are left from row to row.

    `span` are the seconds of a row. The start of a process ends with its first image.
    """
    workers = [start(number, device, folder, line or LINE) for number in range(max(counts))]
    part.note(line=" ".join(line or LINE))
    try:
        begun = time.monotonic()
        while not all(worker.times() for worker in workers):
            if time.monotonic() - begun > START or any(worker.process.poll() is not None for worker in workers):
                raise RuntimeError("a process made no image: " + _log(folder, workers))
            time.sleep(0.2)
        part.note(start_seconds=time.monotonic() - begun)
        for count in sorted(counts, reverse=True):
            stop(workers[count:])
            workers = workers[:count]
            part.measure(f"{count} processes", span, rate, workers, span)
    finally:
        stop(workers)


def rate(workers: list[Worker], span: float) -> dict[str, Any]:
    """Images a second in the next `span` seconds: the sum over processes of intervals over the time they took."""
    begun = time.time()
    time.sleep(span)
    found, images = 0.0, 0
    for worker in workers:
        times = [moment for moment in worker.times() if moment >= begun]
        images += len(times)
        if len(times) > 1:
            found += (len(times) - 1) / (times[-1] - times[0])
    return {"processes": len(workers), "seconds": span, "images": images, "images_a_second": found}


def _log(folder: Path, workers: list[Worker]) -> str:
    """The last lines of the first process without an image."""
    number = next((number for number, worker in enumerate(workers) if not worker.times()), 0)
    return " / ".join((folder / f"{number}.log").read_text().splitlines()[-3:])
