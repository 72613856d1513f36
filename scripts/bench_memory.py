"""Measure the activations of every method against those of the plain model: the peak of a call of two blocks of FLUX.

    python scripts/bench_memory.py                        # on a CPU, in proportion: 48^2 tokens for 256^2, 4096 px
    python scripts/bench_memory.py --device cuda          # FLUX's own width at 2048 and 4096 px; about two minutes

A call is one of a transformer of one double and one single block with random weights, in bfloat16, as the last stage of
a method makes it; its peak is that of the call of more blocks, since blocks leave nothing behind. Each method runs at
the first step, where UltraImage also measures, in the middle and at the last; the row has the largest. On a CPU the
peak is counted in live tensors of the small shape, whose constants (memory_mb, rows of chunks) are in proportion too.
On a GPU it is what the allocator gave out, without the weights. Garbage is not collected meanwhile. A call is divided
by the plain call at the size that the method asks for. It writes `memory-<device>.md` and `.json` to --out.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SIGMAS = (1.0, 0.9, 0.75, 0.6, 0.4, 0.2)
STEPS = (0, 3, 5)
MORE = {
    "hrdit": ({}, {"hap": False, "spa_steps": [4]}),
    "freescale": ({}, {"blur": "code"}),
    "ultraimage": ({}, {"mode": "guided"}),
}
"""Parameters of further rows, for parts that a method has off by default."""


@dataclass(frozen=True)
class Shape:
    """The transformer of FLUX, or one with as many heads of fewer dimensions and fewer tokens."""

    side: int  # of the image in tokens
    train: int  # side of the training grid in tokens
    text: int
    head: int  # dimensions of a head
    channels: int

    @property
    def axes(self) -> tuple[int, int, int]:
        return (self.head // 8, 7 * self.head // 16, 7 * self.head // 16) if self.head % 32 == 0 else (4, 6, 6)

    @property
    def unit(self) -> int:
        """Bytes of the embedded tokens."""
        return (self.side**2 + self.text) * HEADS * self.head * 2

    @property
    def share(self) -> float:
        """Of the bytes that FLUX has at the same ratio to its training size."""
        return self.unit / replace(self, side=64 * self.side // self.train, text=512, head=128).unit


HEADS = 24
SMALL = Shape(48, 12, 18, 16, 8)


def flux(size: int) -> Shape:
    """FLUX.1-dev at a size in pixels."""
    return Shape(size // 16, 64, 512, 128, 64)


class Clock:
    """Stands at one step, where no scheduler drives the transformer."""

    branch = "cond"

    def __init__(self, index: int):
        self.index = index

    def locate(self, *_: Any) -> tuple[int, str]:
        return self.index, self.branch

    def begins(self, *_: Any) -> bool:
        return False

    def sigmas(self) -> tuple[float, ...]:
        return SIGMAS


class Bench:
    """Two blocks at one shape on one device."""

    def __init__(self, shape: Shape, device: str):
        import torch

        from scripts.bench.common import random_flux
        from sega.methods.geometry import load_geometry
        from sega.models import adapter_for

        self.shape, self.device = shape, device
        numbers = {"train_tokens": shape.train, "sega_train_tokens": shape.train, "text_tokens": shape.text}
        self.geometry = replace(load_geometry("flux"), axes=shape.axes, **numbers)
        self.transformer = random_flux(
            device,
            torch.bfloat16,
            in_channels=shape.channels,
            num_layers=1,
            num_single_layers=1,
            num_attention_heads=HEADS,
            attention_head_dim=shape.head,
            axes_dims_rope=shape.axes,
            joint_attention_dim=32 * shape.head,
        )
        self.adapter = adapter_for(self.transformer)

    def method(self, name: str, **parameters: Any) -> Any:
        """A method whose budget of memory is in proportion to the shape."""
        from sega.methods.registry import build_method

        method = build_method({"name": name, **parameters}, self.geometry)
        if not hasattr(method, "memory_mb"):
            return method
        return build_method(
            {"name": name, "memory_mb": method.memory_mb * self.shape.share, **parameters}, self.geometry
        )

    def peak(self, method: Any) -> int:
        """Bytes at the peak of the calls in the last stage of a method."""
        import torch

        from sega.engine.attachment import Attachment
        from sega.engine.flow import Steering
        from sega.engine.recorder import Observation
        from sega.methods.types import ImageRequest

        side = 16 * self.shape.side
        stages = method.stages(ImageRequest((side, side), len(SIGMAS), 4.5))
        index, generator = len(stages) - 1, torch.Generator().manual_seed(0)
        generation = SimpleNamespace(generator=generator, stages=stages, double_layers=1)
        width, height = stages[index].size
        start = torch.zeros(1, self.shape.channels // 4, height // 8, width // 8, device=self.device)
        steering = Steering(self.adapter, stages[index], index, start, None, {}, keep=False, on_step=None)
        attention, peaks = method.attention(index, generation), []
        with torch.no_grad(), Attachment(self.adapter, method, Observation(), attention, steering) as attachment:
            for step in STEPS:
                attachment.clock = Clock(step)  # type: ignore[assignment]
                peaks.append(self.measured(self.inputs((height // 16, width // 16), SIGMAS[step])))
        return max(peaks)

    def inputs(self, grid: tuple[int, int], sigma: float) -> dict[str, Any]:
        import torch

        from sega.models.row_ids import image_ids

        shape, device = self.shape, self.device
        values = {
            "hidden_states": torch.randn(1, grid[0] * grid[1], shape.channels),
            "encoder_hidden_states": torch.randn(1, shape.text, 32 * shape.head),
            "pooled_projections": torch.randn(1, 768),
        }
        return {
            **{key: value.to(device, torch.bfloat16) for key, value in values.items()},
            "guidance": torch.full((1,), 4.5, device=device),
            "timestep": torch.full((1,), sigma, device=device),
            "img_ids": image_ids(grid, device),
            "txt_ids": torch.zeros(shape.text, 3, device=device),
        }

    def measured(self, inputs: dict[str, Any]) -> int:
        """Bytes at the peak of a call beyond what is there before, garbage included."""
        import torch

        from sega.testing.live import LiveBytes

        gc.collect()
        gc.disable()
        try:
            if self.device == "cpu":
                with LiveBytes() as live:
                    self.transformer(**inputs)
                return live.peak
            before = torch.cuda.memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.transformer(**inputs)
            return torch.cuda.max_memory_allocated(self.device) - before
        finally:
            gc.enable()


def in_proportion(shape: Shape) -> Any:
    """The constants of chunks as they are to FLUX at the same ratio to its training size."""
    from contextlib import ExitStack

    tokens = (shape.side / (64 * shape.side // shape.train)) ** 2
    stack = ExitStack()
    stack.enter_context(patch("sega.models.parts.LONG", int(8192 * tokens)))
    stack.enter_context(patch("baselines.kernels.pruned.ROWS", int(1024 * tokens)))
    return stack


def rows_of(bench: Bench, names: list[str]) -> Iterator[dict[str, Any]]:
    """The peak of every method, in bytes, in units of the embedded tokens and of the plain call."""
    bench.peak(bench.method("vanilla"))  # what libraries allocate at their first use
    plain = bench.peak(bench.method("vanilla"))
    for name in names:
        for parameters in MORE.get(name, ({},)):
            words = " ".join([name, *(f"{key}={value}" for key, value in parameters.items())])
            peak = bench.peak(bench.method(name, **parameters))
            row = {"method": words, "tokens": bench.shape.side**2, "peak": peak, "units": peak / bench.shape.unit}
            print(f"{words}: {row['units']:.2f} units, {peak / plain:.3f} of plain", file=sys.stderr, flush=True)
            yield row | {"of_plain": peak / plain}


def table(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    from scripts.bench.common import head_lines

    lines = [
        *head_lines(record, "a unit is the size of the embedded tokens"),
        "",
        "| image tokens | method | MB | units | of plain |",
        "|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        lines.append(
            f"| {row['tokens']} | {row['method']} | {row['peak'] / 2**20:.0f} | {row['units']:.1f} | "
            f"{row['of_plain']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    from sega.methods.registry import METHODS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", nargs="+", type=int, default=[2048, 4096], help="in pixels, on a GPU")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    options = parser.parse_args()
    from scripts.bench.common import head

    record = head("bench_memory.py", sys.argv[1:], options.device, "bfloat16") | {"rows": []}
    stem = options.out / f"memory-{options.device.partition(':')[0]}"
    options.out.mkdir(parents=True, exist_ok=True)
    for shape in [SMALL] if options.device == "cpu" else [flux(size) for size in options.sizes]:
        with in_proportion(shape):
            for row in rows_of(Bench(shape, options.device), options.methods):
                record["rows"].append(row)
                stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
                stem.with_suffix(".md").write_text(table(record))
    print(table(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
