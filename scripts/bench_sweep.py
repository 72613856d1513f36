"""Measure the overhead of a sweep over its denoising and decoding: 8 methods x 16 prompts on the embedded model.

  python scripts/bench_sweep.py                          8 methods, 16 prompts, 384x384
  python scripts/bench_sweep.py prompts.limit=2 steps=4  other keys go to run.py
  python scripts/bench_sweep.py out=results/benchmarks   writes sweep.json and sweep.md there

The sweep runs in one process with an empty store, from the start of Python to its end. The time of the stock pipeline
(from noise to latent, with the work of the method) and of the autoencoder is measured inside. Everything else is
overhead: imports, loading, prompts, attaching, records, files. It prints the ratio of total to measured time, by the
clock and in processor time, which other work on the machine changes little. The exit status is 0 if the ratio in
processor time is at most 1.03.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
METHODS = "vanilla,pi,ntk,yarn,dype,sega,upsample,imax"
LINE = ["-m", "model=tiny", f"method={METHODS}", "res=384", "prompts.limit=16"]
AIM = 1.03


def measured(words: list[str]) -> int:
    """Run run.py with a clock around denoising and the autoencoder. Writes the seconds to the first file."""
    from functools import wraps

    from sega.models.flux import FluxAdapter
    from sega.run import cli

    seconds = {"denoising": 0.0, "decoding": 0.0, "processor": 0.0}

    def timed(function, key):
        @wraps(function)
        def call(*rest, **named):
            begun, processor = time.perf_counter(), time.process_time()
            try:
                return function(*rest, **named)
            finally:
                seconds[key] += time.perf_counter() - begun
                seconds["processor"] += time.process_time() - processor

        return call

    FluxAdapter.sample = timed(FluxAdapter.sample, "denoising")
    FluxAdapter.decode = timed(FluxAdapter.decode, "decoding")
    FluxAdapter.encode = timed(FluxAdapter.encode, "decoding")  # staged methods go through pixels and back
    status = cli.main(words[1:])
    Path(words[0]).write_text(json.dumps(seconds))
    return status


def keep(found: dict[str, float], text: str, words: list[str], folder: Path) -> None:
    """Write the record, and its page."""
    sys.path.insert(0, str(ROOT))
    from scripts.bench.common import head, head_lines

    record = head("bench_sweep.py", words, "cpu", "float32") | found
    about = "8 methods in one process, from the start of Python to its end. Its work is denoising and decoding."
    lines = ["# A sweep", "", *head_lines(record), "", about, "", f"{text}."]
    (folder / "sweep.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / "sweep.md").write_text("\n".join(lines) + "\n")


def main(words: list[str]) -> int:
    """Run the benchmark; returns the exit status."""
    if words[:1] == ["--measured"]:
        sys.path.insert(0, str(ROOT))
        return measured(words[1:])
    out = next((word.partition("=")[2] for word in words if word.startswith("out=")), None)
    words = [word for word in words if not word.startswith("out=")]
    folder = Path(tempfile.mkdtemp(prefix="sweep-"))
    keys = {word.split("=")[0] for word in words}
    line = [word for word in LINE if word.split("=")[0] not in keys] + words
    # Prompts are encoded beforehand, as with the real models: inside the pipeline they would count as denoising.
    line += [f"store={folder / 'runs'}", f"model.text_cache={folder / 'text'}"]
    command = [sys.executable, __file__, "--measured", str(folder / "seconds.json"), *line]
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    total, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode:
        print(f"the sweep ended with status {done.returncode}", file=sys.stderr)
        return 1
    seconds = json.loads((folder / "seconds.json").read_text())
    images = len(list((folder / "runs").glob("*/*/*/*/*.png")))
    shutil.rmtree(folder)
    within = seconds.pop("processor")
    work = sum(seconds.values())
    parts = ", ".join(f"{key} {value:.1f} s" for key, value in seconds.items())
    text = (
        f"{images} images in {total:.1f} s: {parts}, the rest {total - work:.1f} s; {total / work:.3f} times its work, "
        f"{processor / within:.3f} in processor time ({processor - within:.1f} s more)"
    )
    print(text)
    if out:
        own = {"images": images, "seconds": total, **seconds, "ratio": total / work}
        keep(own | {"processor": processor, "ratio in processor time": processor / within}, text, words, Path(out))
    return int(processor > AIM * within)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
