"""What an image costs, counted from configs: transformer calls, operations, bytes, and the weight in a sweep."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sega.formulas.autoencoder import decode_work, encode_work
from sega.formulas.flops import call_work, read_call
from sega.formulas.schedules import tokens_of
from sega.formulas.work import Work
from sega.loading import memory
from sega.loading.caching import Cache, read_cache
from sega.loading.folder import Component, read_parts
from sega.methods.base import Method
from sega.methods.families import family_named
from sega.methods.legs import legs_of
from sega.methods.stepping import read_stepping
from sega.methods.types import Coding, Stage, Step
from sega.models.tiles import OVERLAP, spans
from sega.models.token_line import TokenLine
from sega.run import machines

if TYPE_CHECKING:
    from sega.run.cell import Cell

PER_TOKEN = 1e9  # operations of a class that is not counted


@dataclass(frozen=True)
class Cost:
    """Of one image or of one of its stages."""

    calls: int  # of the transformer; measuring passes are calls
    work: Work | None  # None: the class of the transformer is not counted
    coding: Work | None  # of `work`, what the autoencoder does; None: its class is not counted

    def __add__(self, other: Cost) -> Cost:
        works = ((self.work, other.work), (self.coding, other.coding))
        return Cost(self.calls + other.calls, *(None if None in pair else sum(pair, Work()) for pair in works))


def image_cost(cell: Cell, parts: dict[str, Component]) -> Cost:
    """Of one image; a shared first stage is counted for each."""
    first, *others = stage_costs(cell, parts)
    return sum(others, first)


def stage_costs(cell: Cell, parts: dict[str, Component]) -> list[Cost]:
    """Of each stage of an image. `parts` are those of `sega.loading.folder.read_parts`, or the published ones.

    A step that a cache may leave out is counted as a whole one where the content of the image decides.
    """
    recoded, last = cell.method.recoded(cell.request), len(cell.stages) - 1
    found = []
    for index, stage in enumerate(cell.stages):
        codings = list(recoded.get(index, ()))
        if index == last:
            codings.append(Coding(cell.method.decoded_size(cell.request)))
        coding = _coding(cell, parts, codings)
        calls, work = _calls(cell, parts, index, stage)
        whole = None if work is None else work + (coding or Work())
        found.append(Cost(calls, whole, coding))
    return found


def _calls(cell: Cell, parts: dict[str, Component], index: int, stage: Stage) -> tuple[int, Work | None]:
    """The transformer calls of a stage."""
    steps = stage_steps(cell, index)
    branches, total = 2 if _is_guided(cell, stage) else 1, Work()
    cache = read_cache(cell.model["cache"])
    for alike in _on_one_grid(steps):
        whole = whole_steps(cache, len(alike))[1]
        for number, step in enumerate(alike):
            work = step_work(cell, parts, step, whole=number < whole)
            if work is None:
                return branches * len(steps), None
            total += work
    return branches * len(steps), branches * total


def _on_one_grid(steps: list[Step]) -> Iterator[list[Step]]:
    """Steps in a row on the same grid: a cache begins anew where the latent grows."""
    for _, alike in itertools.groupby(steps, lambda step: step.grid):
        yield list(alike)


def stage_steps(cell: Cell, index: int) -> list[Step]:
    """The transformer calls of a stage as methods are asked about them, then the measuring passes.

    Every other step has a token more on each side where windows shift.
    """
    stage, side = cell.stages[index], cell.model["geometry"]["token_pixels"]
    width, height = (pixels // side for pixels in stage.size)
    stepping = read_stepping(cell.model)
    legs = legs_of(stepping, (2 * height, 2 * width), [*_sigmas(cell, stage, width * height), 0.0])
    calls = [(sigma, leg.size) for leg in legs for sigma in leg.calls(stepping.solver)]
    sigmas, steps = tuple(sigma for sigma, _ in calls), []
    for number, (sigma, (rows, columns)) in enumerate(calls):
        border = int(stage.windows and number % 2 == 0)
        steps.append(Step(number, sigma, (rows // 2 + border, columns // 2 + border), index, sigmas=sigmas))
    method = _method(cell, stage)
    return [*steps, *(replace(step, details={"probe": True}) for step in steps if method.probes(step))]


def step_work(cell: Cell, parts: dict[str, Component], step: Step, whole: bool = True) -> Work | None:
    """One call of the transformer; without `whole` the rest of one whose blocks a cache leaves out."""
    stage = cell.stages[step.stage]
    copies = 1 if stage.plain else len(cell.method.text_positions(step.grid, step.stage))
    image, text = step.grid[0] * step.grid[1], cell.model["geometry"]["text_tokens"] * copies
    component = parts.get("transformer", Component(0, {}))
    if not whole:
        blocks = {key: 0 for key in ("num_layers", "num_single_layers") if key in component.config}
        rest = read_call(component.config | blocks, image, text)
        return None if rest is None else call_work(rest, itemsize(cell), 0)
    call = read_call(component.config, image, text)
    if call is None:
        return None
    attended = _attending(cell, step).attended(step, text, on_gpu(cell))
    return call_work(call, itemsize(cell), component.parameters, attended)


def _is_guided(cell: Cell, stage: Stage) -> bool:
    """Whether true guidance takes a second call of each."""
    least = family_named(cell.model["geometry"]["family"]).guided
    return least is not None and cell.model["negative_prompt"] is not None and stage.guidance > least


def _method(cell: Cell, stage: Stage) -> Method:
    return Method(cell.method.geometry) if stage.plain else cell.method


def _attending(cell: Cell, step: Step) -> Method:
    """The method whose attention applies in a step."""
    method, late = _method(cell, cell.stages[step.stage]), read_stepping(cell.model).late_attention
    return method if late is None or step.sigma >= late.sigma else late.pattern(method)


def _sigmas(cell: Cell, stage: Stage, tokens: int) -> tuple[float, ...]:
    """The sigmas of a stage, about: with the exponential shift of FLUX where the scheduler is not here."""
    if isinstance(stage.schedule, tuple):
        return stage.schedule
    config = _scheduler(cell.weights.folder) if cell.weights else {}
    line = TokenLine(config)
    if not config.get("use_dynamic_shifting", True) and isinstance(stage.schedule, str):
        shift = config.get("shift", 1.0)
    elif isinstance(stage.schedule, str):
        known = {"pinned": lambda: line.pinned(stage.taken), "stock": lambda: line.mu(tokens, stage.taken)}
        shift = math.exp(known.get(stage.schedule, lambda: line.mu(tokens_of(stage.schedule), stage.taken))())
    else:
        shift = stage.schedule
    return tuple(shift * u / (1 + (shift - 1) * u) for u in stage.grid())


@cache
def _scheduler(folder: Path) -> dict[str, Any]:
    file = folder / "scheduler" / "scheduler_config.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def _coding(cell: Cell, parts: dict[str, Component], codings: list[Coding]) -> Work | None:
    """What goes through the autoencoder, large images in tiles."""
    config, side, total = parts["vae"].config if "vae" in parts else {}, memory.tile(cell.model), Work()
    for coding in codings:
        tiles = [(0, length) for length in coding.size]
        rows = columns = [(0, 1)]
        if side is not None and max(coding.size) > side:
            columns, rows = (spans(length, side, OVERLAP) for length in coding.size)
            tiles = [columns[0], rows[0]]
        width, height = (end - start for start, end in tiles)
        one = (encode_work if coding.encodes else decode_work)(config, (width, height), itemsize(cell))
        if one is None:
            return None
        total += len(rows) * len(columns) * one
    return total


def text_work(cell: Cell, parts: dict[str, Component]) -> Work:
    """Of encoding one sentence, at most: all parameters of the encoders for every token, without their attention."""
    tokens = cell.model["geometry"]["text_tokens"]
    parameters = sum(part.parameters for name, part in parts.items() if name.startswith("text_encoder"))
    return Work(products=2.0 * parameters * tokens, traffic=parameters * itemsize(cell))


def whole_calls(cell: Cell, index: int) -> tuple[int, int]:
    """The least and the most steps of a stage that run every block under the cache of a cell."""
    cache, least, most = read_cache(cell.model["cache"]), 0, 0
    grids = list(_on_one_grid(stage_steps(cell, index)))
    for alike in grids:
        bounds = whole_steps(cache, len(alike), ends=alike is grids[-1])
        least, most = least + bounds[0], most + bounds[1]
    return least, most


def whole_steps(cache: Cache | None, steps: int, ends: bool = True) -> tuple[int, int]:
    """The least and the most of so many steps that run every block. Only `taylorseer` decides by number alone.

    `ends`: whether they are the last ones of their stage.
    """
    if cache is None:
        return steps, steps
    if cache.kind == "taylorseer":
        count = sum(step < 3 or (step - 4) % int(cache.value) == 0 for step in range(steps))
        return count, count
    if cache.kind == "sea":  # the first, the last, and at most two in a row are left out
        return 1 + math.ceil((steps - 1) / 3) if ends else math.ceil(steps / 3), steps
    return 1, steps


def itemsize(cell: Cell) -> int:
    """Bytes of an element in the dtype of a cell's model."""
    return 4 if cell.model["dtype"] == "float32" else 2


def on_gpu(cell: Cell) -> bool:
    """Whether a cell runs on a GPU, without asking torch."""
    wish = cell.config["device"]
    if wish != "auto":
        return wish != "cpu"
    return cell.model["budget_gb"] is not None or memory.free("cuda", None) is not None


def machine_of(cell: Cell) -> machines.Machine:
    """What a cell is reckoned to run on: a rate or a card that is named, the GPU here, or a core of a CPU."""
    if cell.config["tflops"] is not None:
        return machines.flat(cell.config["tflops"])
    if not on_gpu(cell):
        return machines.core(cell.model["dtype"])
    card = machines.CARDS.get(cell.config["device"]) or machines.card_here()
    return machines.gpu(card, cell.model["dtype"]) if card else machines.flat(100)


def stage_work(cell: Cell) -> list[float]:
    """The weight of each stage of an image of a cell whose weights are here: about its seconds.

    Only ratios count: a line of progress tells from them how long other cells will take.
    """
    parts, side = _parts(cell.weights.folder), cell.model["geometry"]["token_pixels"]
    machine, work = machine_of(cell), []
    for cost, stage in zip(stage_costs(cell, parts), cell.stages, strict=True):
        tokens = (stage.size[0] // side) * (stage.size[1] // side)
        guess = Work(products=cost.calls * tokens * PER_TOKEN, kernels=1000.0 * cost.calls)
        work.append(machine.seconds(guess if cost.work is None else cost.work))
    return work


@cache
def _parts(folder: Path) -> dict[str, Component]:
    return read_parts(folder)  # headers of files, but for every cell of a sweep
