"""Measure seconds and peak memory of the attention of each method at FLUX shapes, with random weights.

    python scripts/bench_attention.py                     # 4096 px: 65,536 image tokens, 2 heads of 128, one block
    python scripts/bench_attention.py --size 2048 --methods hrdit-spa

Each method runs in its own process, because a process has one memory peak. It makes one call of a transformer with one
double block, as in the last stage of the method, and the probe before it, if the method has one. The peak is the
resident memory of the whole process with its libraries. A method above the limit is marked, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

CASES = {
    "vanilla": ("vanilla", []),
    "ultraimage": ("ultraimage", []),
    "imax": ("imax", []),
    "hiflow": ("hiflow", []),
    "scalediff": ("scalediff", []),
    "freescale": ("freescale", []),
    "hrdit": ("hrdit", ["hap=false"]),
    "hrdit-spa": ("hrdit", ["hap=false", "spa_steps=[3,3]"]),
    "hrdit-hap": ("hrdit", []),
}


def measure(case: str, size: int, heads: int, device: str) -> dict:
    """Return the seconds of the probe and of the step, and the resident memory in MB before and at the peak."""
    import torch
    from diffusers import FluxTransformer2DModel

    from sega import load_method
    from sega.engine.attachment import Attachment
    from sega.engine.flow import Steering
    from sega.engine.recorder import Observation
    from sega.methods.types import ImageRequest
    from sega.models import adapter_for
    from sega.models.row_ids import image_ids

    name, overrides = CASES[case]
    method = load_method(name, "flux", overrides)
    text, side = method.geometry.text_tokens, size // method.geometry.token_pixels
    torch.manual_seed(0)
    transformer = (
        FluxTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=0,
            attention_head_dim=128,
            num_attention_heads=heads,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            guidance_embeds=False,
            axes_dims_rope=(16, 56, 56),
        )
        .eval()
        .to(device)
    )
    stages = method.stages(ImageRequest((size, size), 28, 4.5))
    index, adapter = len(stages) - 1, adapter_for(transformer)
    generation = SimpleNamespace(generator=torch.Generator().manual_seed(0), stages=stages, double_layers=1)
    # The transformer alone: no loop of steps, so no flow and no shifted windows.
    stage, start = replace(stages[index], windows=False), torch.zeros(1, 16, 2 * side, 2 * side)
    steering = Steering(adapter, stage, index, start, None, {}, keep=False, on_step=None)
    inputs = {
        "hidden_states": torch.randn(1, side * side, 64),
        "encoder_hidden_states": torch.randn(1, text, 64),
        "pooled_projections": torch.randn(1, 64),
        "timestep": torch.ones(1),
        "img_ids": image_ids((side, side), "cpu"),
        "txt_ids": torch.zeros(text, 3),
    }
    inputs = {key: value.to(device) for key, value in inputs.items()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    attention = method.attention(index, generation)
    with torch.no_grad(), Attachment(adapter, method, Observation(), attention, steering) as attachment:
        transformer(**inputs)
        probes = [step.seconds for step in attachment.steps if "probe" in step.details]
        seconds = attachment.steps[-1].seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {"case": case, "tokens": side * side + text, "seconds": seconds, "measuring_seconds": sum(probes)}
    if device.startswith("cuda"):
        before, peak = 0.0, torch.cuda.max_memory_allocated() / 2**20
    return result | {"before_mb": before, "peak_mb": peak}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help="side of the image in pixels, a multiple of 16")
    parser.add_argument("--heads", type=int, default=2)
    # Bundled ids cost 7 evaluations at 4096 px, where the method has them off; at 2048 px they cost 3.
    usual = ",".join(case for case in CASES if case != "hrdit-spa")
    parser.add_argument("--methods", default=usual, help=f"any of {', '.join(CASES)}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit-gb", type=float, default=8.0)
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.size, options.heads, options.device)))
        return 0
    cases = options.methods.split(",")
    unknown = [case for case in cases if case not in CASES]
    if unknown or options.size < 16 or options.size % 16:
        wrong = f"unknown: {', '.join(unknown)}" if unknown else f"size {options.size} is no multiple of 16"
        print(f"{wrong}; methods are {', '.join(CASES)}", file=sys.stderr)
        return 2
    if not options.json:
        print("| method | tokens | seconds | probe | peak MB |\n|---|---|---|---|---|")
    heavy = False
    for case in cases:
        command = [sys.executable, __file__, "--one", case, "--size", str(options.size)]
        command += ["--heads", str(options.heads), "--device", options.device]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ).stdout
        row = json.loads(result.splitlines()[-1])
        over = row["peak_mb"] > options.limit_gb * 1024
        heavy |= over
        measuring = f"{row['measuring_seconds']:.1f}" if row["measuring_seconds"] else "-"
        line = f"| {case} | {row['tokens']} | {row['seconds']:.1f} | {measuring} | {row['peak_mb']:.0f}"
        print(json.dumps(row) if options.json else line + (" (over the limit) |" if over else " |"), flush=True)
    return int(heavy)


if __name__ == "__main__":
    sys.exit(main())
