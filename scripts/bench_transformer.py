"""Measure the seconds of a step of FLUX's transformer with random weights, without and with each direct method.

    python scripts/bench_transformer.py                    # on a GPU: all 12 billion parameters, 1024, 2048, 4096 px
    python scripts/bench_transformer.py --device cpu       # reduced: 1 double, 2 single blocks of 2 heads, 256, 512 px

The time is the median of the calls after the first. Operations are matrix products counted from the config with dense
attention. Their share is relative to the rate of large matrix products of the same dtype, which is measured here.
`--train` is the side in tokens above which methods act. The time of a probe is the additional time of the first call.
On a CPU, seconds are processor time, which other work does not change.
It writes `<name>.json` and `<name>.md` to --out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.bench.common import clock, head, head_lines, product_rate, random_flux  # noqa: E402

METHODS = ("vanilla", "pi", "ntk", "yarn", "dype", "sega", "ultraimage")
FULL = {"doubles": 19, "singles": 38, "heads": 24, "text": 512, "sizes": [1024, 2048, 4096], "width": 4096, "train": 64}
REDUCED = {"doubles": 1, "singles": 2, "heads": 2, "text": 64, "sizes": [256, 512], "width": 128, "train": 8}


def measure(transformer, name: str, size: int, options, dtype) -> dict:
    """Return the median step of one method at one size, and the time of its probe if it has one."""
    import torch

    from sega import attach
    from sega.formulas.flops import call_flops
    from sega.methods.geometry import load_geometry
    from sega.methods.registry import build_method
    from sega.models.flux import image_ids
    from sega.run import provenance as machine

    shape = {"train_tokens": options.train, "sega_train_tokens": options.train, "text_tokens": options.text}
    method, device = build_method({"name": name}, replace(load_geometry("flux"), **shape)), options.device
    side = size // method.geometry.token_pixels
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator).to(device, dtype)

    inputs = {
        "hidden_states": random(1, side * side, 64),
        "encoder_hidden_states": random(1, options.text, options.width),
        "pooled_projections": random(1, 768),
        "guidance": torch.full((1,), 4.5, device=device),
        "img_ids": image_ids((side, side), device),
        "txt_ids": torch.zeros(options.text, 3, device=device),
    }
    machine.reset_peak(device)
    with torch.no_grad(), attach(transformer, method) as attachment:
        taken = []
        for index in range(options.repeats + 1):
            started = clock(device)
            transformer(**inputs, timestep=torch.full((1,), 1 - index / (options.repeats + 1), device=device))
            taken.append(clock(device) - started)
        measured = any("probe" in step.details for step in attachment.steps)
    usual = statistics.median(taken[1:])
    operations = call_flops({"_class_name": "FluxTransformer2DModel", **transformer.config}, side * side, options.text)
    return {
        "method": name,
        "size": size,
        "tokens": side * side + options.text,
        "seconds": usual,
        "first": taken[0],
        "measuring": taken[0] - usual if measured else None,
        "peak_mb": machine.peak_mb(device),
        "operations": operations,
    }


def table(record: dict) -> str:
    """Return the record as Markdown."""
    rows = [
        *head_lines(
            record,
            f"{record['parameters'] / 1e9:.3g} billion parameters",
            f"product rate {record['peak_rate'] / 1e12:.3g} TFLOP/s",
        ),
        "",
        "| px | method | s a step | of vanilla | measuring pass, s | peak MB | TFLOP | share of the product rate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    plain = {row["size"]: row["seconds"] for row in record["rows"] if row["method"] == "vanilla"}
    for row in record["rows"]:
        against = f"{row['seconds'] / plain[row['size']]:.2f}" if row["size"] in plain else "-"
        measuring = f"{row['measuring']:.3g}" if row["measuring"] else "-"
        share = row["operations"] / row["seconds"] / record["peak_rate"]
        rows.append(
            f"| {row['size']} | {row['method']} | {row['seconds']:.3g} | {against} | {measuring} | "
            f"{row['peak_mb']:.0f} | {row['operations'] / 1e12:.3g} | {share:.0%} |"
        )
    return "\n".join(rows) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu, which gets the reduced shape")
    for key in ("doubles", "singles", "heads", "text", "width", "train"):
        parser.add_argument(f"--{key}", type=int, help=f"{FULL[key]} on a GPU, {REDUCED[key]} on a CPU")
    parser.add_argument("--sizes", type=int, nargs="+", help="sides in pixels, multiples of 16")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--repeats", type=int, default=3, help="timed calls")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    parser.add_argument("--name", help="of the files; the device by default")
    options = parser.parse_args()
    for key, value in (REDUCED if options.device == "cpu" else FULL).items():
        if getattr(options, key) is None:
            setattr(options, key, value)
    if options.repeats < 1 or any(size < 16 or size % 16 for size in options.sizes):
        parser.error("sizes must be multiples of 16 px, and repeats at least 1")
    return options


def main() -> int:
    options = arguments()
    import torch

    if options.device != "cpu" and not torch.cuda.is_available():
        print(f"device {options.device}: no usable CUDA device; --device cpu measures a reduced shape", file=sys.stderr)
        return 2
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    transformer = random_flux(
        options.device,
        dtype,
        num_layers=options.doubles,
        num_single_layers=options.singles,
        num_attention_heads=options.heads,
        joint_attention_dim=options.width,
    )
    record = {
        **head("bench_transformer.py", sys.argv[1:], options.device, dtype),
        "parameters": sum(parameter.numel() for parameter in transformer.parameters()),
        "peak_rate": product_rate(options.device, dtype),
        "rows": [],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    name = options.name or options.device.partition(":")[0]
    for size in options.sizes:
        for method in options.methods:
            try:
                record["rows"].append(measure(transformer, method, size, options, dtype))
            except torch.OutOfMemoryError:
                print(f"{method} at {size} px does not fit on {record['device']}; left out", file=sys.stderr)
                torch.cuda.empty_cache()
            (options.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    text = table(record)
    (options.out / f"{name}.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
