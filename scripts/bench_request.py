"""Measure the time of a request before anything is loaded, in two checkouts: scripts/bench_request.py old=../before

A wrong line, such as line='model=tiny steps=-1', is measured until it is refused.

  old      the other checkout
  pairs    10        runs of each, one after the other
  line     model=tiny method=sega res=2x dry_run=true

Prints the median seconds of each, and the median of the ratios of the pairs, for the clock and for processor time.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = {"old": "", "pairs": "10", "line": "model=tiny method=sega res=2x dry_run=true"}


def measure(checkout: Path, line: list[str]) -> tuple[float, float]:
    """Return the wall-clock and processor seconds of `run.py`."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "run.py", *line], cwd=checkout, capture_output=True, text=True)
    if done.returncode not in (0, 2):
        raise SystemExit(done.stderr)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(words: list[str]) -> int:
    given = dict(word.split("=", 1) for word in words if "=" in word)
    if set(given) - set(OPTIONS) or not given.get("old") or len(given) != len(words):
        print(__doc__)
        return 2
    options = OPTIONS | given
    checkouts = {"old": Path(options["old"]).resolve(), "new": ROOT}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as store:
        line = [*options["line"].split(), f"store={store}/runs"]
        for turn in range(int(options["pairs"]) + 1):
            for name, checkout in checkouts.items():
                found = measure(checkout, line)
                if turn:  # the first pair fills the caches
                    times[name].append(found)
    for index, what in enumerate(("clock", "processor")):
        old, new = ([pair[index] for pair in times[name]] for name in ("old", "new"))
        ratio = median(b / a for a, b in zip(old, new, strict=True))
        print(f"{what:9}  old {median(old):.3f} s  new {median(new):.3f} s  ratio {ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
