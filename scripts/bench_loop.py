"""Measure run.py against the stock pipeline in a plain loop, on the same images.

    python scripts/bench_loop.py                               # the small model at 1x and 2x; 3 minutes of an idle CPU
    python scripts/bench_loop.py --model flux --path /models/FLUX.1-dev --device cuda --sizes 1x --count 8
    python scripts/bench_loop.py --pretend 1 --sizes 1024      # a device beside the processor, 1 s an image

In one process, with the weights loaded, turns of `run.py` with an empty store and of a loop around the pipeline, which
saves each image as PNG, alternate. A turn makes `--count` images of the plain model. The pixels of both are compared.
A ratio is that of a turn to the mean of the loops beside it; on a CPU also in processor time, which other work changes
little. What a request costs that finds all its images made (its words, checks, records) is measured by itself, and is
not part of the ratio an image.
It writes `loop-<device>.md` and `.json` to --out, with medians and the range of the middle half.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


KEYS = [f"{what}{kind}" for kind in ("clock", "processor") for what in ("", "loop, ", "request, ")]
KEYS += ["clock an image", "processor an image"]


class Pretended:
    """Stands for a pipeline on a device beside the processor: an image takes its seconds, and costs nothing here."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def open(self, *_: Any) -> Pretended:
        return self

    def free(self) -> None:
        pass

    def describe(self, device: str) -> str:
        return device

    def generate(self, pipe: Any, method: Any, prompt: str, **options: Any) -> SimpleNamespace:
        image = self(size=options["size"]).images[0]
        return SimpleNamespace(image=image, seconds=0.0, base_seconds=0.0, calls=1, steps=[], full_calls=None)

    def __call__(self, size: tuple[int, int]) -> SimpleNamespace:
        time.sleep(self.seconds)
        return SimpleNamespace(images=[scene(size)])


@cache
def scene(size: tuple[int, int]) -> Any:
    """An image that is as hard to compress as a photograph: a render with noise of two grey levels."""
    import numpy as np
    from PIL import Image

    from sega.embedded import world

    render = world.render(world.scene_for(world.prompts(0, 1)[0], 0), *size).astype(np.float32)
    noisy = render + np.random.default_rng(0).normal(0, 2, render.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


class Bench:
    """Turns of both at one size, and what the loop passes to the pipeline for each image."""

    def __init__(self, options: argparse.Namespace, size: str, count: int, folder: Path):
        from sega.run.maker import Maker

        words = [f"model={options.model}", "method=vanilla", "method.schedule=stock", f"res={size}"]
        self.line = [*words, f"prompts.limit={count}", f"device={options.device}"]
        if options.path:
            self.line.append(f"model.path={options.path}")
        self.folder, self.turns = folder, 0
        self.maker = Pretended(options.pretend) if options.pretend else Maker()
        *_, images = self.ours()
        rows = [json.loads(line) for line in (images[0].parent / "images.jsonl").open()]
        run = json.loads((images[0].parent / "run.json").read_text())["identity"]
        if options.pretend:
            self.pipe: Any = self.maker
            self.images = [(row["file"], {"size": tuple(run["size"])}) for row in rows]
        else:
            (self.pipe,) = Maker._opened.values()
            self.images = [(row["file"], self.arguments(row, run)) for row in rows]

    def arguments(self, row: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
        """What a stock pipeline is told to make the image of a row of the store."""
        import torch

        from sega.engine.generation import seeded
        from sega.models import adapter_for

        adapter, size = adapter_for(self.pipe), (run["size"][0], run["size"][1])
        generator = seeded(row["seed"], row["prompt"], size)
        noise = torch.randn(adapter.latent_shape(size), generator=generator).to(adapter.device)
        return {
            **adapter.text_arguments(row["prompt"]),
            "latents": adapter.pack(noise),
            "width": size[0],
            "height": size[1],
            "num_inference_steps": run["steps"],
            "guidance_scale": run["guidance"],
            "max_sequence_length": run["text_tokens"],
        }

    def ours(self, again: bool = False) -> tuple[float, float, list[Path]]:
        """Clock and processor seconds of run.py, with the last store or a new one, and its images."""
        from sega.run.cli import main

        self.turns += not again
        store = self.folder / f"ours-{self.turns}"
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            clock, processor = time.perf_counter(), time.process_time()
            status = main([*self.line, f"store={store}"], maker=self.maker)
            taken = time.perf_counter() - clock, time.process_time() - processor
        if status:
            raise SystemExit(f"run.py ended with status {status}: {said.getvalue()}")
        return (*taken, sorted(store.glob("*/*/*/*/*.png")))

    def loop(self) -> tuple[float, float, list[Path]]:
        """Clock and processor seconds of the plain loop, and its images."""
        place = self.folder / "loop"
        place.mkdir(exist_ok=True)
        clock, processor = time.perf_counter(), time.process_time()
        for name, arguments in self.images:
            self.pipe(**arguments).images[0].save(place / name)
        return time.perf_counter() - clock, time.process_time() - processor, sorted(place.iterdir())

    def row(self, turns: int) -> dict[str, Any]:
        """The ratios and seconds of some turns of both."""
        found: dict[str, list[float]] = {key: [] for key in KEYS}
        before, different = self.loop(), 0
        for _ in range(turns):
            own, fixed, after = self.ours(), self.ours(again=True), self.loop()
            different += sum(not same(*pair) for pair in zip(own[2], after[2], strict=True))
            for index, key in enumerate(("clock", "processor")):
                beside = (before[index] + after[index]) / 2
                found[key].append(own[index] / beside)
                found[f"{key} an image"].append((own[index] - fixed[index]) / beside)
                found[f"loop, {key}"].append(beside)
                found[f"request, {key}"].append(fixed[index])
            before = after
        return {"images": len(self.images), "different": different, **found}


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same pixels."""
    from PIL import Image

    with Image.open(one) as first, Image.open(other) as second:
        return first.tobytes() == second.tobytes()


def table(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    from scripts.bench.common import head_lines

    turns = f"{record['model']}; ratios of {record['turns']} turns: median, and the range of the middle half"
    lines = [
        *head_lines(record, turns),
        "",
        "| size | images | s, loop | run.py to the loop | in processor time | an image, in processor time | s, request "
        "| different images |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        ratios = " | ".join(spread(row[key]) for key in ("clock", "processor", "processor an image"))
        loop, request = (statistics.median(row[key]) for key in ("loop, clock", "request, clock"))
        lines.append(
            f"| {row['size']} | {row['images']} | {loop:.2f} | {ratios} | {request:.2f} | {row['different']} |"
        )
    return "\n".join(lines) + "\n"


def spread(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="a model of conf/model")
    parser.add_argument("--path", help="the folder of its weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", nargs="+", default=["1x", "2x"], help="as in res")
    parser.add_argument("--count", nargs="+", type=int, default=[12, 2], help="images of a turn at each size")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--pretend", type=float, default=0.0, help="seconds an image of a device that is not there")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    options = parser.parse_args()
    from scripts.bench.common import head
    from sega.loading.known import model_config

    record = head("bench_loop.py", sys.argv[1:], options.device, model_config(options.model)["dtype"])
    record |= {"model": options.model, "turns": options.turns, "rows": []}
    device = options.device
    if options.pretend:
        device, record["device"] = "pretended", f"a device of {options.pretend} s an image"
    stem = options.out / f"loop-{device.partition(':')[0]}"
    options.out.mkdir(parents=True, exist_ok=True)
    for index, size in enumerate(options.sizes):
        count = options.count[min(index, len(options.count) - 1)]
        with tempfile.TemporaryDirectory(prefix="loop-") as folder:
            record["rows"].append({"size": size, **Bench(options, size, count, Path(folder)).row(options.turns)})
        stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
        stem.with_suffix(".md").write_text(table(record))
    print(table(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
