"""Measure what each switch for speed costs in quality: one command, which goes on where it stopped.

    python scripts/bench_switches.py --device cuda --workers 8       # everything, 16 captions at 2x and 4x
    python scripts/bench_switches.py --sizes 1x 2x --count 2 --steps 8 --out /tmp/try      # in small, on a CPU
    python scripts/switches_page.py                                  # page and figure from its record

Images are made exactly and with every switch from the same noise, by run.py into --store, and scored by
`python -m eval`; what is there is not made again. Workers share the images by the claims of the store. Differences to
the exact run are paired by caption (eval.report.compare). Operations are counted: of the plan, and of calls in part
the share that ran. `switches.json` (and `.csv`, a line an image) is written to --out after every size. What fails is
named there, with its traceback, and left out; where the packages of the scorer are not there, scores are. The captions
are those of no other table; `speed=` is tried on others too.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.bench.common import head  # noqa: E402
from scripts.bench.record import Part, Record  # noqa: E402
from scripts.bench.switch_rows import SCORES, Measured, measure  # noqa: E402
from scripts.bench.switches import CAPTIONS, OTHERS, Job, jobs, runs  # noqa: E402


def make(size: str, todo: list[Job], options: argparse.Namespace) -> None:
    """Make the images that are missing, in this process. What fails is recorded, and the next job begins."""
    from eval.hooks import HOOKS
    from sega.run.cli import main as run

    first = (options.worker or 0) * len(todo) // max(options.workers, 1)  # workers begin at different jobs

    def images(part: Part) -> None:
        for job in [*todo[first:], *todo[:first]]:
            part.measure(str(job), 0, lambda job: {"status": run(job.words(options), HOOKS)}, job)

    record = Record(made_record(size, options.worker or 0, options), {"size": size}, options.seconds)
    record.run("images", options.seconds, images)


def made_record(size: str, worker: int, options: argparse.Namespace) -> Path:
    """Where a worker records the jobs of a size that it went through."""
    path: Path = options.store / f"made-{size}-{worker}.json"
    return path


def failures(options: argparse.Namespace) -> dict[str, str]:
    """The traceback of each job that failed in any worker, so far."""
    workers = range(max(options.workers, 1))
    files = [made_record(size, worker, options) for size in options.sizes for worker in workers]
    parts = [json.loads(file.read_text())["parts"] for file in files if file.is_file()]
    return {name: trace for part in parts for name, trace in part["images"]["failed"].items()}


def make_together(size: str, options: argparse.Namespace) -> None:
    """Make the images of a size by several processes, each of which runs this script."""
    command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], "--sizes", size]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen([*command, "--worker", str(n)], env=environment) for n in range(options.workers)]
    for process in started:
        process.wait()


def score(options: argparse.Namespace) -> None:
    """Score the runs of the store. Without open_clip and torchmetrics nothing is scored."""
    from eval.scoring.command import main

    lacking = [name for name in ("open_clip", "torchmetrics") if find_spec(name) is None]
    if lacking:
        print(f"NOT SCORED: no {' and no '.join(lacking)}", flush=True)
        return
    for captions in (CAPTIONS, OTHERS):
        store = runs(options, captions)
        if store.exists():
            words = [f"store={store}", f"cache={options.store / 'cache'}", f"metrics=[{','.join(SCORES)}]"]
            main([*words, f"device={options.device}", f"workers={options.workers}"])


def write(found: list[Measured], missing: list[str], images: list[dict[str, Any]], options: argparse.Namespace) -> None:
    record = {
        **head("bench_switches.py", _public(sys.argv[1:]), options.device, options.dtype),
        "steps": options.steps,
        "rows": [asdict(item) | {"within": item.within} for item in found],
        "missing": missing,
        "failed": failures(options),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{options.stem}.json").write_text(json.dumps(record, indent=1) + "\n")
    with (options.out / f"{options.stem}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, images[0] if images else ["captions"])
        writer.writeheader()
        writer.writerows(images)


def _public(words: list[str]) -> list[str]:
    """The words of the command without the folders of this machine."""
    kept = list(words)
    for name in ("--store", "--out"):
        if name in kept:
            del kept[kept.index(name) : kept.index(name) + 2]
    return kept


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["2x", "4x"])
    parser.add_argument("--count", type=int, default=16, help="captions")
    parser.add_argument("--switches", nargs="+", help="words of run.py, for SEGA and the plain model; default: all")
    parser.add_argument("--steps", type=int, default=20, help="of the exact run")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that make images; 0: this one")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # the number of this process among them
    parser.add_argument("--seconds", type=float, default=86400, help="after which no switch is begun at a size")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--store", type=Path, default=ROOT / "results" / "cache" / "switches")
    parser.add_argument("--stem", default="switches", help="name of the files")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    done: list[Job] = []
    for size in options.sizes:
        todo = list(jobs(size, options))
        if options.worker is not None or not options.workers:
            make(size, todo, options)
        else:
            make_together(size, options)
        if options.worker is None:
            score(options)
            done += todo
            write(*measure(done, options), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
