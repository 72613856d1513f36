"""Measure on a GPU what nothing else can tell: one command, minutes, every result on disk as soon as it is there.

    python scripts/bench_gpu.py cpu                      # before, anywhere: the images of a CPU to compare with
    python scripts/bench_gpu.py run                      # on the GPU; all parts within 240 s
    python scripts/bench_gpu.py page                     # gpu.json and a later gpu-2.json as results/benchmarks/gpu.md
    python scripts/bench_gpu.py run device=cpu model=small out=/tmp/gpu.json     # a try without a GPU

`cpu methods=area,scalediff` makes the images of these methods alone, and `run` compares what is there.
Words of `run` are device=cuda, model=flux (all 12 billion parameters at random) or small, seconds=240 (of all parts),
parts=images,rate,waits,memory,flux, turns=<of flux alone these, in this order: scalediff:2048,plain:2048>,
expected=<the file of cpu>, out=<the record>, commit=<that of the files, where they come without git or with that of
another folder>. The parts:

  images  every method once on the small model in float32, against the CPU's image
  rate    images a second of run.py on the small model with 12, 6 and 1 processes
  waits   what a step of each direct method waits for
  memory  of one call at 4096 px with each method, with two of FLUX's 57 blocks
  flux    steps of FLUX's transformer through the engine: methods, attention backends, step cache, compiled blocks

A part or a measurement that fails leaves its traceback in the record, and the rest goes on. What does not fit into the
time is left out, by name.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

FOLDER = ROOT / "results" / "benchmarks"
RUN = {
    "device": "cuda",
    "model": "flux",
    "seconds": "240",
    "parts": "images,rate,waits,memory,flux",
    "turns": "",
    "expected": str(ROOT / "results" / "cache" / "gpu-expected.npz"),
    "out": str(FOLDER / "gpu.json"),
    "commit": "",
}
OPTIONS = {
    "cpu": {"out": RUN["expected"], "size": "2x", "methods": ""},
    "run": RUN,
    "page": {
        "record": RUN["out"],
        "earlier": str(FOLDER / "h100-earlier.json"),
        "later": str(FOLDER / "gpu-2.json"),  # where it is there
        "out": str(FOLDER / "gpu.md"),
    },
}
SECONDS = {"images": 45, "rate": 70, "waits": 15, "memory": 30, "flux": 600}
"""At most, for each part."""


def run(options: dict[str, str]) -> int:
    """Run the parts; 1 where any of them failed."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    from scripts.bench import flux, images, rate, waits
    from scripts.bench.common import head
    from scripts.bench.record import Record

    device, small = options["device"], options["model"] == "small"
    words = [f"{key}={options[key]}" for key in ("device", "model", "seconds", "parts", "turns") if options[key]]
    dtype = torch.float32 if small else torch.bfloat16
    first = head("bench_gpu.py", ["run", *words], device, dtype, options["commit"])
    record = Record(Path(options["out"]), first, float(options["seconds"]))
    with tempfile.TemporaryDirectory() as folder:
        parts = {
            "images": lambda part: images.compare(part, device, Path(options["expected"])),
            "rate": lambda part: rate.measure(part, device, Path(folder), [1] if small else [12, 6, 1], 5),
            "waits": lambda part: waits.count(part, device),
            "memory": lambda part: flux.memory(part, device, dtype, small),
            "flux": lambda part: flux.measure(part, device, dtype, small, options["turns"]),
        }
        for name in options["parts"].split(","):
            record.run(name, SECONDS[name], parts[name])
    print(options["out"])
    return int(any(part["failed"] for part in record.values["parts"].values()))


def cpu(options: dict[str, str]) -> int:
    from scripts.bench.images import write_expected
    from sega.errors import near
    from sega.methods.registry import METHODS

    for name in filter(None, options["methods"].split(",")):
        if name not in METHODS:
            print(f"unknown method {name!r}{near(name, METHODS)}", file=sys.stderr)
            return 2
    write_expected(Path(options["out"]), options["size"], options["methods"])
    return 0


def page(options: dict[str, str]) -> int:
    from scripts.bench.page import page as text

    record, earlier = (json.loads(Path(options[key]).read_text()) for key in ("record", "earlier"))
    later = Path(options["later"])
    Path(options["out"]).write_text(text(record, earlier, json.loads(later.read_text()) if later.exists() else None))
    print(options["out"])
    return 0


def main(words: list[str]) -> int:
    command, given = (words[0], words[1:]) if words else ("", [])
    if command not in OPTIONS:
        print(__doc__, file=sys.stderr)
        return 2
    options = dict(OPTIONS[command])
    for word in given:
        key, equals, value = word.partition("=")
        if key not in options or not equals:
            print(f"can't read {word!r}; {command} takes {', '.join(options)}", file=sys.stderr)
            return 2
        options[key] = value
    unknown = [name for name in options.get("parts", "images").split(",") if name not in SECONDS]
    if unknown:
        print(f"unknown part {unknown[0]!r}; there are {', '.join(SECONDS)}", file=sys.stderr)
        return 2
    return {"cpu": cpu, "run": run, "page": page}[command](options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
