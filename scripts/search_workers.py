"""Work on a search with many workers of this machine, then write its report.

    python scripts/search_workers.py 10 search=direct device=cuda minutes=8 trials=10000

The words are those of `python -m eval.search`. Each worker has its share of the CPU cores and writes what it says to
`worker-<n>.log` in --logs (default: results/search/logs). One that fails is told, and the others go on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    """Exit status 0 if every worker and the report ended well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workers", type=int)
    parser.add_argument("words", nargs="+")
    parser.add_argument("--logs", type=Path, default=Path("results/search/logs"))
    options = parser.parse_args(arguments)
    options.logs.mkdir(parents=True, exist_ok=True)
    threads = str(max(1, (os.cpu_count() or 1) // options.workers))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "eval.search", *options.words]
    running = {}
    for number in range(1, options.workers + 1):
        log = options.logs / f"worker-{number}.log"
        with log.open("w") as file:
            running[log] = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    worst = 0
    for log, worker in running.items():
        status = worker.wait()
        worst = max(worst, abs(status))
        last = log.read_text().splitlines()[-1:] or ["nothing said"]
        print(f"{log.name}: {'' if status == 0 else f'exit status {status}; '}{last[0]}", flush=True)
    about = [word for word in options.words if word.startswith(("search=", "out="))]
    report = subprocess.run([sys.executable, "-m", "eval.search.report", *about], env=environment, check=False)
    return max(worst, abs(report.returncode))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
