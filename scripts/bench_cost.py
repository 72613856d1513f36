"""Hold the cost model against measured times: growth on the small model on one core, and records of an H100.

    python scripts/bench_cost.py measure       # calls from 64 to 9,216 tokens, images of all methods; some minutes
    python scripts/bench_cost.py page          # the record as results/benchmarks/cost.md, with the H100's

Words are out=<folder>, turns=<how often each is timed>, h100=<records of a GPU, in either of the two shapes that
scripts/bench_gpu.py and its forerunner write>. Sizes take turns, seconds are processor time of one thread, and the
least of them counts, since other work can only add to it. Constants of the machine: dense layers from one large
product, convolutions from decoding 384 px, masks from HRDiT's attention alone, and attention, bandwidth and launches
from three sizes of a call; all other rows are predicted with them.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SIDES = (8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 80, 96)  # tokens
FITTED = (8, 24, 96)
PROMPT = "a red striped ball on the left standing on grass under a cloudy sky with light from the right"
IMAGES = (  # method, size, options, steps
    ("vanilla", "1x", (), 20),
    ("vanilla", "2x", (), 6),
    ("vanilla", "4x", (), 2),
    ("sega", "2x", (), 6),
    ("window", "2x", (), 6),
    ("resdit", "2x", (), 7),
    ("area", "2x", (), 10),
    ("area", "4x", (), 4),
    ("ultraimage", "2x", ("steps=run",), 6),
    ("upsample", "2x", ("base_steps=10",), 1),
    ("imax", "2x", ("base_steps=10", "steps=6"), 1),
    ("hiflow", "2x", ("base_steps=10",), 1),
    ("scalediff", "2x", ("base_steps=10",), 1),
    ("freescale", "2x", ("base_steps=10",), 1),
    ("hrdit", "2x", ("base_steps=10",), 1),
    ("pixelrush", "2x", ("base_steps=10",), 1),
)
OPTIONS = {
    "out": str(ROOT / "results" / "benchmarks"),
    "turns": "4",
    "h100": ",".join(str(ROOT / "results" / "benchmarks" / name) for name in ("h100-earlier.json", "gpu.json")),
}


class Bench:
    """The small model in one dtype."""

    def __init__(self, dtype: str):
        import torch

        from sega import load_pipeline

        torch.set_num_threads(1)
        self.name, self.dtype = dtype, getattr(torch, dtype)
        self.pipe = load_pipeline("tiny", device="cpu", dtype=dtype)
        self.pipe.set_progress_bar_config(disable=True)

    def cell(self, name: str, size: str, options: tuple[str, ...] = (), steps: int = 1) -> Any:
        """The cell of an image, for its work."""
        from sega.run.request import read_request

        own = [f"method.{option}" for option in options]
        words = ["model=tiny", f"model.dtype={self.name}", "device=cpu", f"method={name}", f"res={size}", *own]
        (cell,) = read_request([*words, f"steps={steps}", "prompts.limit=1"]).cells
        return cell

    def call(self, side: int) -> tuple[Any, Any]:
        """A transformer call of side x side tokens, and its work."""
        import torch

        from sega.models.flux import image_ids
        from sega.run.cost import stage_steps, step_work

        transformer, generator = self.pipe.transformer, torch.Generator().manual_seed(0)

        def random(*shape: int) -> Any:
            return torch.randn(*shape, generator=generator).to(self.dtype)

        inputs = {
            "hidden_states": random(1, side * side, 32),
            "encoder_hidden_states": random(1, 24, 128),
            "pooled_projections": random(1, 128),
            "timestep": torch.full((1,), 0.5),
            "guidance": torch.full((1,), 3.5),
            "img_ids": image_ids((side, side), "cpu"),
            "txt_ids": torch.zeros(24, 3),
        }
        cell = self.cell("vanilla", str(8 * side))
        return lambda: transformer(**inputs), step_work(cell, parts_of(cell), stage_steps(cell, 0)[0])

    def image(self, name: str, size: str, options: tuple[str, ...], steps: int) -> tuple[Any, Any]:
        """An image by a method, and its work."""
        from sega import generate, load_method
        from sega.run.cost import image_cost, text_work

        cell = self.cell(name, size, options, steps)
        method, parts = load_method(name, self.pipe, list(options)), parts_of(cell)
        work = image_cost(cell, parts).work + text_work(cell, parts)
        return lambda: generate(self.pipe, method, PROMPT, size=size, steps=steps), work

    def decoding(self, side: int) -> tuple[Any, Any]:
        """A decoding of side x side pixels, and its work."""
        import torch

        from sega.formulas.autoencoder import decode_work

        latent, vae = torch.randn(1, 8, side // 4, side // 4).to(self.dtype), self.pipe.vae
        config = {"_class_name": "AutoencoderKL", **vae.config}
        return lambda: vae.decode(latent), decode_work(config, (side, side), self.dtype.itemsize)

    def masked(self) -> tuple[Any, Any]:
        """Pruned attention of 2,304 tokens as HRDiT has it in the upscale, and its work."""
        import torch

        from baselines.kernels.pruned import hap_chunked, pruned_attended
        from sega.formulas.work import Work

        shape = {"text": 24, "block": 24, "stride": 12}
        q, k, v = torch.randn(3, 1, 3, 2328, 64).to(self.dtype)
        seen = pruned_attended(2328, half=11, flex=False, **shape)
        work = Work(attention=4 * seen.pairs * 192, masked=3 * seen.masked, traffic=seen.vectors * 192 * q.itemsize)
        return lambda: hap_chunked(q, k, v, halves=[11], scale=0.125, **shape), work

    def product(self) -> tuple[Any, Any]:
        """A product as large as those of a call at 2,304 tokens, and its operations."""
        import torch

        from sega.formulas.work import Work

        a, b = torch.randn(2304, 768).to(self.dtype), torch.randn(768, 768).to(self.dtype)
        return lambda: a @ b, Work(products=2.0 * 2304 * 768 * 768)


def parts_of(cell: Any) -> Any:
    from sega.loading.folder import read_parts

    return read_parts(cell.weights.folder)


def timed(run: Any) -> float:
    """Processor seconds; short runs are repeated for a twentieth of a second, and the least counts."""
    import torch

    least, begun = float("inf"), time.process_time()
    with torch.no_grad():
        while least == float("inf") or time.process_time() - begun < 0.05:
            started = time.process_time()
            run()
            least = min(least, time.process_time() - started)
    return least


def measure(options: dict[str, str]) -> int:
    """Time everything in turns, in both dtypes, and write the record."""
    from sega.run import provenance as machine

    record: dict[str, Any] = {
        "command": shlex.join(["python", "scripts/bench_cost.py", *sys.argv[1:]]),
        "cpu": next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        "packages": machine.packages(),
        **machine.code(),
        "dtypes": {},
    }
    for dtype in ("float32", "bfloat16"):
        bench = Bench(dtype)
        jobs = {"product": bench.product(), "masked": bench.masked()}
        jobs |= {f"decoding {side}": bench.decoding(side) for side in (192, 384, 768)}
        jobs |= {f"call {side}": bench.call(side) for side in SIDES}
        images = {" ".join(map(str, (row[0], row[1], row[3], *row[2]))): bench.image(*row) for row in IMAGES}
        seconds: dict[str, list[float]] = {}
        for turn in range(int(options["turns"]) + 1):
            for name, (run, _) in (jobs | (images if turn else {})).items():
                taken = timed(run)
                if turn:  # the first one warms up
                    seconds.setdefault(name, []).append(taken)
        works = {name: vars(work) for name, (_, work) in (jobs | images).items()}
        found = {"fitted": list(FITTED), "seconds": seconds, "work": works}
        record["dtypes"][dtype] = found | {"constants": fitted(found)}
    out = Path(options["out"]) / "cost.json"
    out.write_text(json.dumps(record, indent=1) + "\n")
    return page(options)


def fitted(found: dict[str, Any]) -> dict[str, float]:
    """The constants of the machine, from what was timed in one dtype."""
    import numpy as np

    least, work = {name: min(values) for name, values in found["seconds"].items()}, found["work"]
    products = work["product"]["products"] / least["product"]
    rows, rest = [], []
    for name in (f"call {side}" for side in FITTED):
        rows.append([work[name][key] / least[name] for key in ("attention", "traffic", "kernels")])
        rest.append(1 - work[name]["products"] / products / least[name])
    attention, byte, launch = np.linalg.solve(rows, rest)
    one, pruned = work["decoding 384"], work["masked"]
    convolved = least["decoding 384"] - one["traffic"] * byte - one["kernels"] * launch
    masked = least["masked"] - pruned["attention"] * attention - pruned["traffic"] * byte
    return {
        "products": products,
        "attention": 1 / attention,
        "flex": 1 / attention,  # not measured
        "convolutions": one["convolutions"] / convolved,
        "masked": pruned["masked"] / masked,
        "bandwidth": 1 / byte,
        "launch": float(launch),
    }


def page(options: dict[str, str]) -> int:
    from scripts.bench.cost_page import text

    folder = Path(options["out"])
    record = json.loads((folder / "cost.json").read_text())
    files = [Path(file) for file in options["h100"].split(",") if Path(file).is_file()]
    gpus = [(file.name, json.loads(file.read_text())) for file in files]
    (folder / "cost.md").write_text(text(record, gpus))
    return 0


def main(words: list[str]) -> int:
    command, *pairs = words or [""]
    given = dict(word.split("=", 1) for word in pairs if "=" in word)
    if command not in ("measure", "page") or set(given) - set(OPTIONS) or len(given) < len(pairs):
        print(__doc__)
        return 2
    return {"measure": measure, "page": page}[command](OPTIONS | given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
