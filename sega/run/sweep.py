"""What a worker of a sweep is told besides its cell: its part, how long claims last, whether to retry failures."""

from __future__ import annotations

import re
from typing import Any

from eval.protocols import check_values
from sega.errors import RequestError
from sega.run.cell import Cell, identity, plan
from sega.run.cost import stage_work
from sega.run.progress import Sweep
from sega.run.prompts import Prompt
from sega.store.cell_folder import RunFolder


def plan_cell(config: dict[str, Any]) -> Cell:
    """The cell of a resolved config. Raises RequestError for whatever can't work, the options of sweeps included."""
    parse_part(config["part"])
    lease = config["lease"]
    if isinstance(lease, bool) or not isinstance(lease, int | float) or not 1 <= lease <= 86400:
        raise RequestError(f"lease={lease} must be a number of seconds from 1 to 86400")
    if not isinstance(config["retry_failed"], bool):
        raise RequestError(f"retry_failed={config['retry_failed']} must be true or false")
    check_values(config["eval"])
    return plan(config)


def parse_part(part: Any) -> tuple[int, int]:
    """(i, n) of `i/n`, i from 1; (1, 1) for null."""
    if part is None:
        return 1, 1
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(part))
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise RequestError(f"part={part} must be i/n with i from 1 to n, such as part=1/4")
    return int(match[1]), int(match[2])


def ordered(cell: Cell) -> list[tuple[Prompt, int]]:
    """The images of a cell in the order of this worker: its own part, then those of the others, to help them out."""
    part, parts = parse_part(cell.config["part"])
    shares = [cell.prompts[(part - 1 + step) % parts :: parts] for step in range(parts)]
    return [(prompt, seed) for share in shares for prompt in share for seed in cell.seeds_of(prompt)]


def file_name(prompt: Prompt, seed: int) -> str:
    return f"{prompt.id}-{seed}.png"


def folder_of(cell: Cell) -> RunFolder:
    """Where the images of a cell belong."""
    from sega.engine.noise import NOISE_VERSION
    from sega.loading.pipeline import fingerprint

    about = identity(cell, fingerprint(cell.weights), NOISE_VERSION)
    place = cell.model["name"], cell.method.name, cell.request.size
    return RunFolder(cell.config["store"], *place, about, lease=cell.config["lease"])


def sweep_of(cells: list[Cell]) -> Sweep:
    """All images that cells ask for."""
    sweep = Sweep()
    for cell in cells:
        sweep.add(folder_of(cell), [file_name(*item) for item in cell.images], sum(stage_work(cell)))
    return sweep
