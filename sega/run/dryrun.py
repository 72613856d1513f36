"""`dry_run=true`: what a request would make, and what it would cost, with nothing loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sega.formulas.work import Work
from sega.loading import memory
from sega.loading.caching import read_cache
from sega.loading.folder import Component, read_parts
from sega.loading.known import published
from sega.loading.weights import fingerprint, known_fingerprint, source
from sega.methods.types import Stage
from sega.run.cell import Cell, file_name
from sega.run.cost import Cost, image_cost, machine_of, on_gpu, text_work, whole_calls
from sega.run.machines import CARDS, Machine
from sega.run.quantities import amount, clock, traffic

SMALL = 2e9  # bytes of weights that are hashed for an answer; larger ones are only looked up


def show(cells: list[Cell]) -> int:
    """Print the plan of every cell and their sum. Returns the exit status."""
    made, total, sentences = 0, Work(), {}
    for cell in cells:
        lines, missing, cost, text = describe(cell)
        print("\n".join(lines), flush=True)
        made += missing
        total += missing * (cost.work or Work())
        if missing:  # sentences are encoded once for all methods and sizes
            sentences |= {(cell.model["name"], prompt.text): text for prompt in cell.prompts}
    machine = machine_of(cells[0])
    seconds = machine.seconds(sum(sentences.values(), total))
    what = f"{amount(total.operations)}, {clock(seconds)} {at(machine)}, text included"
    print(f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'}, {made} images to make: {what}; nothing was loaded")
    return 0


def describe(cell: Cell) -> tuple[list[str], int, Cost, Work]:
    """The lines of a cell, the images it lacks, the cost of one, and that of encoding a sentence."""
    model = cell.model
    where = cell.weights.folder if cell.weights else "not on this machine, so published values are taken"
    there = count_there(cell)
    missing = len(cell.images) - (there or 0)
    known = f"{there} in the store" if there is not None else "the store is named by weights not known here"
    parts = read_parts(cell.weights.folder) if cell.weights else published(model)
    cost = image_cost(cell, parts)
    lines = [
        cell.label,
        f"  weights  {source(model)} ({where})",
        f"  images   {len(cell.images)} ({_factors(cell)}), {known}",
        *_stages(cell),
        *(f"  note     {line}" for line in cell.unused),
    ]
    return [*lines, *_cost(cell, cost, missing), *_memory(cell, parts)], missing, cost, text_work(cell, parts)


def _cost(cell: Cell, cost: Cost, missing: int) -> list[str]:
    if cost.work is None:
        return [f"  cost     {cost.calls} transformer calls an image; this class is not counted"]
    machine = machine_of(cell)
    each, rest = (clock(n * machine.seconds(cost.work)) for n in (1, missing))
    work = f"{cost.calls} transformer calls, {amount(cost.work.operations)} and {traffic(cost.work.traffic)} an image"
    lines = [f"  cost     {work}: {each} {at(machine)}, {rest} for {missing}"]
    if cost.coding is None:
        lines.append("           without the autoencoder, whose class is not counted")
    else:
        share = machine.seconds(cost.coding) / machine.seconds(cost.work)
        lines.append(f"           the autoencoder has {amount(cost.coding.operations)} of it, {share:.1%} of the time")
    if (cache := read_cache(cell.model["cache"])) is not None:
        steps = [whole_calls(cell, index) for index in range(len(cell.stages))]
        least, most = (sum(column) for column in zip(*steps, strict=True))
        if least < most:
            lines.append(f"           counted with every block in {most} steps; {cache} leaves {least} whole at least")
    return lines


def at(machine: Machine) -> str:
    """`on one H100 80GB SXM`, `on one core`, or `at 100 TFLOP/s`."""
    return f"{'at' if machine.launch == 0 else 'on one'} {machine.name}"


def _factors(cell: Cell) -> str:
    if any(prompt.seed is not None for prompt in cell.prompts):
        return f"{len(cell.prompts)} prompts, with seeds of their own"
    return f"{len(cell.prompts)} x {len(cell.seeds)}: prompts x seeds"


def _stages(cell: Cell) -> list[str]:
    """A line for each stage, one for all that are alike."""
    alike: dict[str, list[int]] = {}
    for number, stage in enumerate(cell.stages, 1):
        alike.setdefault(_stage(cell, stage), []).append(number)
    return [f"  {_numbers(numbers)}  {line}" for line, numbers in alike.items()]


def _numbers(numbers: list[int]) -> str:
    """`stage 1`, `stages 2-10`, or `stages 2, 4 ... 18`."""
    first, last = numbers[0], numbers[-1]
    if len(numbers) == 1:
        return f"stage {first}"
    return f"stages {first}-{last}" if len(numbers) == last - first + 1 else f"stages {first}, {numbers[1]} ... {last}"


def _stage(cell: Cell, stage: Stage) -> str:
    pixels, (width, height) = cell.model["geometry"]["token_pixels"], stage.size
    count = (width // pixels) * (height // pixels)
    words = f"{height // pixels}x{width // pixels} = {count} tokens and {cell.model['geometry']['text_tokens']} of text"
    times = f"{stage.taken} step{'' if stage.taken == 1 else 's'}" + (
        f" of {stage.steps}" if stage.taken != stage.steps else ""
    )
    if isinstance(stage.schedule, tuple):
        shift = f"sigma {', '.join(f'{sigma:.4g}' for sigma in stage.schedule)}"
    else:
        shift = f"{stage.schedule} shift"
    return f"{width}x{height}: {words}, {times}, guidance {stage.guidance:g}, {shift}"


def _memory(cell: Cell, parts: dict[str, Component]) -> list[str]:
    expected = memory.expected(cell, parts) if {"transformer", "vae"} <= set(parts) else None
    if expected is None:
        return ["  memory   not known for this class"]
    device, budget = cell.config["device"], cell.model["budget_gb"]
    if device == "auto":
        device = "cuda" if on_gpu(cell) else "cpu"
    if device in CARDS and budget is None:
        budget = CARDS[device].memory
    plan = memory.choose(cell.model, expected, device, memory.free(device, budget))
    each = ", ".join(f"{mode} {memory.readable(expected.needs(mode))}" for mode in memory.MODES[1:])
    return [f"  {plan.line().replace('memory: ', 'memory   ')}", f"           on a GPU, by model.memory: {each}"]


def count_there(cell: Cell) -> int | None:
    """Images of a cell in the store; None where the weights, which name its folder, are not known.

    Without weights every folder of the cell's settings counts whose run.json differs in nothing else.
    """
    names = {file_name(*item) for item in cell.images}
    weights = None
    if cell.weights:
        large = sum(path.stat().st_size for path in cell.weights.folder.rglob("*.safetensors")) > SMALL
        weights = known_fingerprint(cell.weights) if large else fingerprint(cell.weights)
    own = cell.folder_for(weights or "?")
    about = json.loads(json.dumps(own.identity))  # as a run.json holds it
    if weights:
        return len(names & _there(own.path))
    alike = [record.parent for record in own.path.parent.glob("*/run.json") if _anonymous(record) == about]
    return len(names & set().union(*map(_there, alike))) if alike else None


def _there(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.png")}


def _anonymous(record: Path) -> dict[str, Any]:
    """The identity in a run.json, whatever its weights."""
    try:
        about = json.loads(record.read_text())["identity"]
        return about | {"model": about["model"] | {"weights": "?"}}
    except (ValueError, KeyError):  # damaged, which a run says and mends
        return {}
