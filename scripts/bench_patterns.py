"""Measure attention patterns against full attention, step by step, at FLUX's shape: one layer, random tokens.

    python scripts/bench_patterns.py                          # 2048 and 4096 px, 2 heads of 128, every 3rd of 28 steps
    python scripts/bench_patterns.py --sizes 1024,2048 --every 1

Each method runs in a process of its own, because a process has one memory peak, and measures full attention first, in
the middle and last, so that a ratio is one of neighbours in time. `pairs` are the query-key pairs of the patterns, by
count. The page is written to results/benchmarks/patterns.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

CASES = {
    "window": ("window", []),
    "resdit": ("resdit", []),
    "area": ("area", []),
    "area-quarter": ("area", ["budget=0.25"]),
}
PAGE = ROOT / "results" / "benchmarks" / "patterns.md"


def sigmas(steps: int) -> tuple[float, ...]:
    """FLUX's sigmas with the shift pinned to its training size, mu = 1.15."""
    grid = [1 - k / steps for k in range(steps)]
    return tuple(math.exp(1.15) * u / (1 + (math.exp(1.15) - 1) * u) for u in grid)


def calls(method, side: int, heads: int, steps: int):
    """Return make(index): the attention call of a step on side x side tokens, and the counter of pairs."""
    import torch
    import torch.nn.functional as F
    from diffusers.models.embeddings import apply_rotary_emb

    from sega.methods.types import AttentionCall, Step
    from sega.models.flux_tables import rotary_table
    from sega.models.row_ids import image_ids

    text, generator = method.geometry.text_tokens, torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, text + side * side, heads, 128, generator=generator)
    ids = torch.cat([torch.zeros(text, 3), image_ids((side, side), "cpu")])
    latent, counted = torch.randn(side * side, 64, generator=generator), {"pairs": 0}

    def dense(q, k, v, scale=None):
        counted["pairs"] += q.shape[0] * q.shape[1] * k.shape[1]
        return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), scale=scale).transpose(1, 2)

    def make(index: int) -> AttentionCall:
        step = Step(index, sigmas(steps)[index], (side, side), sigmas=sigmas(steps), latent=latent)
        own = method.positions((side, side), step.sigma)

        def rotate(x, ids=ids, rope=None):
            return apply_rotary_emb(x, rotary_table(ids, rope or own, method.geometry), sequence_dim=1)

        def text_ids(place, size):
            return torch.tensor([[0.0, *place]]).expand(text, 3)

        return AttentionCall(q, k, v, text, (side, side), 0, 1, step, ids, rotate, text_ids, dense)

    return make, counted


def measure(name: str, size: int, heads: int, steps: int, every: int) -> dict:
    """Seconds and pairs of the chosen steps, seconds of full attention, and resident memory in MB."""
    import torch

    from sega import load_method
    from sega.methods.base import Attention

    plain = load_method("vanilla", "flux")
    method = plain if name == "full" else load_method(CASES[name][0], "flux", CASES[name][1])
    side = size // method.geometry.token_pixels
    (make, counted), (full, _) = calls(method, side, heads, steps), calls(plain, side, heads, steps)
    part = Attention() if name == "full" else method.attention(0, None)

    def timed(attention, call) -> float:
        started = time.perf_counter()
        attention.attend(call)
        return time.perf_counter() - started

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows, dense = [], []
    with torch.no_grad():
        chosen = [0] if name == "full" else list(range(0, steps, every))
        for place, index in enumerate(chosen):
            if name == "full" or place in (0, len(chosen) // 2, len(chosen) - 1):
                dense.append(timed(Attention(), full(0)))
            counted["pairs"] = 0
            seconds = timed(part, make(index))
            rows.append({"step": index, "sigma": sigmas(steps)[index], "seconds": seconds, "pairs": counted["pairs"]})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    everything = (side * side + method.geometry.text_tokens) ** 2
    return {
        "method": name,
        "size": size,
        "tokens": side * side,
        "full_seconds": dense,
        "full_pairs": everything,
        "rows": rows,
        "before_mb": before,
        "peak_mb": peak,
    }


def page(found: list[dict], command: str, options: argparse.Namespace) -> str:
    """The measurements as a page."""
    import diffusers
    import torch

    head = (
        f"`{command}`\n\nAttention of one layer of FLUX's shape ({options.heads} heads of 128, 512 text tokens, "
        f"float32, random values) in one step of {options.every}, of {options.steps}, as a share of full attention. "
        f"{platform.machine()}, {torch.get_num_threads()} threads; torch {torch.__version__}, diffusers "
        f"{diffusers.__version__}. Seconds of full attention are the median of three runs between those of the method. "
        "Mean and most are over the steps. The peak is the resident memory of the whole process, libraries and three "
        "inputs included; full attention on a CPU never holds all logits. `area-quarter` has `budget=0.25`.\n\n"
    )
    lines = [
        "| method | px | tokens | full, s | mean, s | mean / full | most / full | pairs | most pairs | peak MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for item in found:
        full, rows = statistics.median(item["full_seconds"]), item["rows"]
        seconds, pairs = [row["seconds"] for row in rows], [row["pairs"] / item["full_pairs"] for row in rows]
        mean = statistics.mean(seconds)
        lines.append(
            f"| {item['method']} | {item['size']} | {item['tokens']} | {full:.2f} | {mean:.2f} | {mean / full:.3f} | "
            f"{max(seconds) / full:.3f} | {statistics.mean(pairs):.3f} | {max(pairs):.3f} | {item['peak_mb']:.0f} |"
        )
    return head + "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="2048,4096", help="sides in pixels")
    parser.add_argument("--methods", default=",".join(CASES), help=f"any of {', '.join(CASES)}")
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--every", type=int, default=3, help="measure every so many steps")
    parser.add_argument("--out", default=str(PAGE))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, size = options.one.split("@")
        print(json.dumps(measure(name, int(size), options.heads, options.steps, options.every)))
        return 0
    unknown = [name for name in options.methods.split(",") if name not in CASES]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; methods are {', '.join(CASES)}", file=sys.stderr)
        return 2
    found = []
    for size in options.sizes.split(","):
        for name in ("full", *options.methods.split(",")):
            line = [sys.executable, __file__, "--one", f"{name}@{size}", "--heads", str(options.heads)]
            line += ["--steps", str(options.steps), "--every", str(options.every)]
            result = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True, env=os.environ).stdout
            found.append(json.loads(result.splitlines()[-1]))
            print(name, size, f"{found[-1]['peak_mb']:.0f} MB", flush=True)
    Path(options.out).write_text(page(found, " ".join(["python", "scripts/bench_patterns.py", *sys.argv[1:]]), options))
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
