"""Measure what each switch for speed costs in quality: one command, which goes on where it stopped.

    python scripts/bench_switches.py --device cuda --workers 8       # everything, 16 captions at 2x and 4x
    python scripts/bench_switches.py --sizes 1x 2x --count 2 --steps 8 --out /tmp/try      # in small, on a CPU
    python scripts/switches_page.py                                  # page and figure from its record

Images are made exactly and with every switch from the same noise, by run.py into --store, and scored by
`python -m eval`; what is there is not made again. Workers share the images by the claims of the store. Differences to
the exact run are paired by caption (eval.report.compare). Operations are counted: of the plan, and of calls in part
the share that ran. `switches.json` (and `.csv`, a line an image) is written to --out after every size. What fails is
named there and left out; where the packages of the scorer are not there, scores are. The captions are those of no
other table; `speed=` is tried on others too.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from switches_page import SCORES, Measured  # noqa: E402

from scripts.bench.common import head  # noqa: E402

EXACT = ""
SPEEDS = ("speed=fast", "speed=faster")
SINGLE = (
    "steps=0.7x",
    "steps=0.5x",
    *(f"model.cache={cache}" for cache in ("first_block:0.15", "taylorseer:2", "sea:0.25", "sea:0.3", "sea:0.35")),
    *(f"model.progressive={delta}" for delta in ("0.01", "0.05", "0.1", "0.05:2")),
    "model.solver=dpm++2m",
    *(f"steps=0.5x model.solver={solver}" for solver in ("dpm++2m", "unipc", "heun")),
    *(f"model.late_attention={rule}" for rule in ("window:1:0.5", "window:1:0.8", "pruned:0.5:0.5")),
)
PAIRS = (
    "steps=0.5x model.progressive=0.05:2",
    "model.cache=sea:0.35 model.progressive=0.1",
    "steps=0.7x model.cache=sea:0.3 model.progressive=0.05",
    "steps=0.5x model.solver=dpm++2m model.progressive=0.05",
    "steps=0.5x model.cache=sea:0.3 model.progressive=0.05",
    "steps=0.7x model.late_attention=window:1:0.8 model.progressive=0.1",
)
ROUNDING = ("model.quantize=fp8", "model.attention=_native_math")
ON_GPU = ("model.compile=true", "model.quantize=8bit", "model.quantize=4bit")
BASES = {
    "scalediff,freescale,upsample,pixelrush": "model.base_steps=0.5x",
    "hiflow": "method.base_steps=15",
}
DIRECT = "vanilla,sega"
CAPTIONS, OTHERS = 29, 31
"""`prompts.seed`: not that of the demo (0) or of the reference (11). The second is for what was chosen on the first."""


@dataclass(frozen=True)
class Job:
    """A command line of run.py: some methods with a switch at a size."""

    captions: int
    size: str
    methods: str
    switch: str

    def words(self, options: argparse.Namespace) -> list[str]:
        return [
            *("-m", "model=tiny", f"model.dtype={options.dtype}", f"model.steps={options.steps}"),
            *(f"method={self.methods}", f"res={self.size}", f"device={options.device}"),
            *(f"prompts.seed={self.captions}", f"prompts.count={options.count}"),
            f"store={runs(options, self.captions)}",
            *self.switch.split(),
        ]


def runs(options: argparse.Namespace, captions: int) -> Path:
    """The store of the images of some captions; in one store they would be images of the same runs."""
    store: Path = options.store / f"captions-{captions}" / "runs"
    return store


def jobs(size: str, options: argparse.Namespace) -> Iterator[Job]:
    """All jobs at a size; exact runs come before what is compared with them."""
    switches = options.switches
    if switches is None:
        switches = [*SPEEDS, *SINGLE, *PAIRS, *ROUNDING, *(ON_GPU if options.device != "cpu" else ())]
    yield from (Job(CAPTIONS, size, DIRECT, switch) for switch in dict.fromkeys([EXACT, *switches]))
    if options.switches is None:
        for methods, switch in BASES.items():
            yield from (Job(CAPTIONS, size, methods, word) for word in (EXACT, switch))
        yield from (Job(OTHERS, size, DIRECT, switch) for switch in (EXACT, *SPEEDS))


def make(todo: list[Job], options: argparse.Namespace) -> None:
    """Make the images that are missing, in this process. A job that fails is named, and the next one begins."""
    from eval.hooks import HOOKS
    from sega.run.cli import main as run

    first = (options.worker or 0) * len(todo) // max(options.workers, 1)  # workers begin at different jobs
    begun = time.monotonic()
    for job in [*todo[first:], *todo[:first]]:
        if time.monotonic() - begun > options.seconds:
            print(f"OUT OF TIME before {job}", flush=True)
            return
        try:
            status = run(job.words(options), HOOKS)
        except Exception:  # whatever it is, the other switches are wanted
            traceback.print_exc()
            status = 1
        if status:
            print(f"FAILED {job}", flush=True)


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


def measure(todo: list[Job], options: argparse.Namespace) -> tuple[list[Measured], list[str], list[dict[str, Any]]]:
    """Compare the runs of the store with the exact ones: what was measured, what was not, and a line an image."""
    from eval.records.rows import load_rows
    from eval.records.runs import load_run
    from eval.report.compare import Comparison
    from sega.errors import RequestError
    from sega.run.request import read_request

    stores = [runs(options, captions) for captions in (CAPTIONS, OTHERS)]
    stores = [store for store in stores if any(store.rglob("scores.json"))]
    rows = [row for store in stores for row in load_rows(store, options.store / "cache")[0]]
    scored = {row.run.folder.resolve(): row for row in rows if not row.is_reference}
    compare, exact, found, missing, images = Comparison(options.store / "cache"), {}, [], [], []
    for job in todo:
        try:
            cells = read_request(job.words(options)).cells
        except RequestError as error:
            missing.append(f"{job.captions} {job.size}: {job.switch}: {error}")
            continue
        for cell in cells:
            place = job.captions, job.size, cell.method.name
            run = load_run(cell.folder.path) if cell.folder.path.exists() else None
            if run is None or len(run.images) < options.count:
                missing.append(f"{' '.join(map(str, place))}: {job.switch or 'exact'}")
                continue
            made = Made(run, scored.get(run.folder.resolve()), _flops(cell, run))
            if not job.switch:
                exact[place] = made
            if place not in exact:
                missing.append(f"{' '.join(map(str, place))}: {job.switch}, for want of the exact run")
                continue
            item = _measured(job, cell.method.name, made, exact[place], compare)
            found.append(item)
            images += _images(item, made)
    return found, missing, images


@dataclass(frozen=True)
class Made:
    """A run: its images, its scores where it has some, and the operations of an image."""

    run: Any
    row: Any
    flops: float


def _flops(cell: Any, run: Any) -> float:
    """Operations of an image, as planned, times the share that ran of its calls."""
    from sega.loading.folder import read_parts
    from sega.run.cost import image_cost

    plan = image_cost(cell, read_parts(cell.weights.folder)["transformer"].config)
    assert plan.flops is not None  # FLUX is counted
    ran = statistics.mean(image.cost.get("full_calls", image.cost["calls"]) for image in run.images)
    return plan.flops * ran / plan.calls


def _measured(job: Job, method: str, made: Made, exact: Made, compare: Any) -> Measured:
    row, base = made.row, exact.row
    paired = job.switch and row is not None and base is not None
    pairs = {name: compare.pair(row, base, name).difference if paired else None for name in SCORES}
    others = {image.key: image.path for image in exact.run.images}
    return Measured(
        job.captions,
        job.size,
        method,
        job.switch,
        len(made.run.images),
        statistics.mean(image.cost["calls"] for image in made.run.images),
        made.flops / exact.flops,
        [_psnr(image.path, others[image.key]) for image in made.run.images] if job.switch else [],
        {name: None if row is None else row.cell(name)["value"] for name in SCORES},
        {name: (d.value, d.low, d.high) if d and d.low is not None else None for name, d in pairs.items()},
    )


def _images(item: Measured, made: Made) -> Iterator[dict[str, Any]]:
    """A line for each image: where it belongs, its PSNR, and the scores that it has by itself."""
    psnr = item.psnr or [None] * item.images
    scored = [] if made.row is None else made.row.scored
    scores = {(line["prompt_id"], line["seed"]): line["values"] for line in scored}
    for image, value in zip(made.run.images, psnr, strict=True):
        about = {"captions": item.captions, "size": item.size, "method": item.method, "switch": item.switch}
        own = scores.get(image.key, {})
        attributes = own.get("attributes") or {}
        about |= {"prompt_id": image.prompt_id, "psnr": value, "attributes": attributes.get("mean")}
        yield about | {"clip_score": own.get("clip_score")}


def _psnr(one: Path, other: Path) -> float | None:
    """In dB; None for equal images."""
    import numpy as np
    from PIL import Image

    a, b = (np.asarray(Image.open(path).convert("RGB"), np.float64) for path in (one, other))
    error = float(np.square(a - b).mean())
    return 10 * math.log10(255**2 / error) if error else None


def write(found: list[Measured], missing: list[str], images: list[dict[str, Any]], options: argparse.Namespace) -> None:
    record = {
        **head("bench_switches.py", _public(sys.argv[1:]), options.device, options.dtype),
        "steps": options.steps,
        "rows": [asdict(item) | {"within": item.within} for item in found],
        "missing": missing,
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
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which no switch is begun at a size")
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
            make(todo, options)
        else:
            make_together(size, options)
        if options.worker is None:
            score(options)
            done += todo
            write(*measure(done, options), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
