"""What an image costs, counted from the config of the transformer: calls, operations, and the weight in a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sega.formulas.flops import call_flops
from sega.loading.folder import Component, read_parts
from sega.methods.families import family_named

if TYPE_CHECKING:
    from sega.run.cell import Cell

OVERHEAD = 3e9
"""Operations that a transformer call costs besides its own: Python, norms and small kernels. Some 15 ms on two cores of
a CPU, a third of a call of the embedded model at its native size, and nothing beside the 1e13 of a call of FLUX."""
PER_TOKEN = 1e9  # of a class that is not counted


@dataclass(frozen=True)
class Cost:
    """Of one image or of one of its stages."""

    calls: int
    flops: float | None  # of the transformer alone; None: its class is not counted


def stage_costs(cell: Cell, config: dict[str, Any]) -> list[Cost]:
    """Transformer calls of each stage of an image and their operations; `config` is the transformer's."""
    geometry, found = cell.model["geometry"], []
    guided = family_named(geometry["family"]).guided  # guidance above it takes a second call
    plain = float("inf") if guided is None or cell.model["negative_prompt"] is None else guided
    for index, stage in enumerate(cell.stages):
        width, height = (side // geometry["token_pixels"] for side in stage.size)
        taken = stage.taken * (2 if stage.guidance > plain else 1)
        copies = 1 if stage.plain else len(cell.method.text_positions((height, width), index))
        each = call_flops(config, height * width, geometry["text_tokens"] * copies)
        found.append(Cost(taken, None if each is None else float(taken * each)))
    return found


def image_cost(cell: Cell, config: dict[str, Any]) -> Cost:
    """Transformer calls of one image and their operations; a shared first stage is counted for each."""
    costs = stage_costs(cell, config)
    counted = all(cost.flops is not None for cost in costs)
    return Cost(sum(cost.calls for cost in costs), sum(cost.flops for cost in costs) if counted else None)


def stage_work(cell: Cell) -> list[float]:
    """The weight of each stage of an image of a cell whose weights are here, in operations.

    It is proportional to the seconds of a stage: what a line of progress needs to tell how long other cells will take.
    """
    parts, side = _parts(cell.weights.folder), cell.model["geometry"]["token_pixels"]
    config = parts["transformer"].config if "transformer" in parts else {}
    work = []
    for cost, stage in zip(stage_costs(cell, config), cell.stages, strict=True):
        tokens = (stage.size[0] // side) * (stage.size[1] // side)
        flops = cost.calls * tokens * PER_TOKEN if cost.flops is None else cost.flops
        work.append(flops + cost.calls * OVERHEAD)
    return work


@cache
def _parts(folder: Path) -> dict[str, Component]:
    return read_parts(folder)  # headers of files, but for every cell of a sweep
