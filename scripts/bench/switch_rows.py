"""The rows of the record of scripts/bench_switches.py: images of a store with a switch against those without."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench.switches import CAPTIONS, OTHERS, Job, runs

SCORES = {"attribute_accuracy": 3, "clip_score": 2, "fid": 2}
"""Metrics, and the digits they are given with."""
LEAST = 6
"""Captions below which there is no verdict, as in the report."""


@dataclass(frozen=True)
class Measured:
    """A switch on a method at a size, against the exact run."""

    captions: int  # prompts.seed
    size: str
    method: str
    switch: str  # words of run.py; "" is the exact run
    images: int
    calls: float
    share: float  # of the operations of the exact run
    psnr: list[float | None]  # of each image against the exact one, dB; None where they are equal
    values: dict[str, float | None]  # of each score; None where nothing was scored
    differences: dict[str, tuple[float, float, float] | None]  # minus exact, with its 95 % interval

    @property
    def group(self) -> tuple[int, str, str]:
        return self.captions, self.size, self.method

    @property
    def within(self) -> bool:
        """Whether no score is worse than exact beyond its interval; not known, so False, with few images."""
        return self.images >= LEAST and not any(map(self.is_worse, self.differences))

    def is_worse(self, score: str) -> bool:
        """Whether the interval of a score leaves out 0 on the worse side."""
        if self.differences[score] is None or self.images < LEAST:
            return False
        _, low, high = self.differences[score]
        return low > 0 if score == "fid" else high < 0

    @property
    def kind(self) -> str:
        """One of KINDS; "" for the exact run."""
        words = self.switch.split()
        if not words or self.switch.startswith("speed="):
            return "speed" if words else ""
        if len(words) > 1:
            return "solver" if "model.solver" in self.switch and len(words) == 2 and "steps" in words[0] else "pair"
        key = words[0].split("=")[0].removeprefix("model.").removeprefix("method.")
        names = {"base_steps": "base", "quantize": "weights", "attention": "rounding", "compile": "rounding"}
        return names.get(key, key)


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
    """Operations of the transformer for an image: as planned, or of the calls that ran where some ran in part."""
    from sega.loading.folder import read_parts
    from sega.run.cost import image_cost

    parts = read_parts(cell.weights.folder)
    if "full_calls" in run.images[0].cost:
        whole = _whole_call(cell, parts["transformer"].config)
        return whole * statistics.mean(image.cost["full_calls"] for image in run.images)
    plan = image_cost(cell, parts)
    assert plan.work is not None and plan.coding is not None  # both classes are counted
    return (plan.work - plan.coding).operations


def _whole_call(cell: Any, config: dict[str, Any]) -> int:
    """Operations of a dense call at the size of the image, of which `full_calls` are shares."""
    from sega.formulas.flops import call_flops

    geometry = cell.model["geometry"]
    width, height = (side // geometry["token_pixels"] for side in cell.request.size)
    flops = call_flops(config, width * height, geometry["text_tokens"])
    assert flops is not None  # FLUX is counted
    return flops


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
        [psnr(image.path, others[image.key]) for image in made.run.images] if job.switch else [],
        {name: None if row is None else row.cell(name).get("value") for name in SCORES},
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


def psnr(one: Path, other: Path) -> float | None:
    """In dB; None for equal images."""
    import numpy as np
    from PIL import Image

    a, b = (np.asarray(Image.open(path).convert("RGB"), np.float64) for path in (one, other))
    error = float(np.square(a - b).mean())
    return 10 * math.log10(255**2 / error) if error else None
