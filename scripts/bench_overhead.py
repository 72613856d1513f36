"""Measure what each direct method adds to a step of the stock pipeline.

    python scripts/bench_overhead.py                          # the small model at 1x, 2x and 4x
    python scripts/bench_overhead.py --path /models/FLUX.1-dev --device cuda --sizes 1x 4x

A turn is one whole pass of the stock pipeline from the same noise and embeddings, without decoding. Turns of the plain
pipeline and of each method alternate, and a ratio is that of a turn to the mean of the plain turns beside it. It
writes `overhead-<device>.md` and `.json` to --out, with the median ratio and the range of the middle half.
On a CPU, seconds are processor time of one thread, which other work changes little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.bench.common import clock, head, head_lines  # noqa: E402

METHODS = ("pi", "ntk", "yarn", "dype", "sigma", "tasr", "vision_yarn", "sega")
PROMPT = "a red striped ball on the left standing on grass under a cloudy sky with light from the right"


class Bench:
    """One pipeline at one size."""

    def __init__(self, pipe: Any, size: str, steps: int, device: str):
        import torch

        from sega import load_method
        from sega.loading.known import model_config
        from sega.methods.sizes import parse_size
        from sega.models import adapter_for

        model = model_config(pipe)
        geometry = load_method("vanilla", pipe).geometry
        self.pipe, self.device, self.steps = pipe, device, steps
        self.size = parse_size(size, model["native"], geometry.token_pixels, "size")
        adapter = adapter_for(pipe)
        text = adapter.encode_text(pipe, PROMPT, geometry.text_tokens)
        generator = torch.Generator().manual_seed(0)
        latent = torch.randn(adapter.latent_shape(self.size), generator=generator).to(device, pipe.transformer.dtype)
        self.arguments = {
            "latents": adapter.pack(latent),
            "width": self.size[0],
            "height": self.size[1],
            "guidance_scale": model["guidance"],
            "num_inference_steps": steps,
            "output_type": "latent",
            **text,
        }

    def turn(self) -> float:
        """Seconds of one pass."""
        started = clock(self.device)
        self.pipe(**self.arguments)
        return (clock(self.device) - started) / self.steps

    def ratios(self, name: str, turns: int) -> tuple[list[float], list[float]]:
        """The ratios of the turns of a method, and the seconds a step of the plain turns around them."""
        from sega import attach, load_method

        method = load_method(name, self.pipe)
        found, plain = [], [self.turn()]
        for _ in range(turns):
            with attach(self.pipe, method):
                own = self.turn()
            plain.append(self.turn())
            found.append(2 * own / (plain[-1] + plain[-2]))
        return found, plain


def table(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    lines = [
        *head_lines(record, f"model={record['model']}"),
        f"Ratios of {record['turns']} turns: median, and the range of the middle half.",
        "",
        "| size | tokens | ms a step, plain | method | of plain | middle half |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        low, middle, high = statistics.quantiles(row["ratios"], n=4, method="inclusive")
        lines.append(
            f"| {row['size']} | {row['tokens']} | {1000 * statistics.median(row['plain']):.1f} | {row['method']} | "
            f"{middle:.3f} | {low:.3f} to {high:.3f} |"
        )
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="a model of conf/model, or the folder of a checkpoint")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", nargs="+", default=["1x", "2x", "4x"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--steps", type=int, default=4, help="of a turn")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    import torch

    from sega import load_pipeline

    if options.device == "cpu":
        torch.set_num_threads(1)
    pipe = load_pipeline(options.model).to(options.device)
    pipe.set_progress_bar_config(disable=True)
    record: dict[str, Any] = {
        **head("bench_overhead.py", sys.argv[1:], options.device, pipe.transformer.dtype),
        "model": options.model,
        "turns": options.turns,
        "rows": [],
    }
    for size in options.sizes:
        bench = Bench(pipe, size, options.steps, options.device)
        bench.turn()
        for name in options.methods:
            ratios, plain = bench.ratios(name, options.turns)
            tokens = bench.arguments["latents"].shape[1]
            row = {"size": size, "tokens": tokens, "method": name, "ratios": ratios, "plain": plain}
            record["rows"].append(row)
            print(f"{size} {name} {statistics.median(ratios):.3f}", file=sys.stderr)
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"overhead-{options.device.partition(':')[0]}"
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    text = table(record)
    stem.with_suffix(".md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
