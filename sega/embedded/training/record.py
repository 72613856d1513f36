"""What training writes down. Each part has one JSON record; together they are `training.json`.

Every record holds `steps`, `seconds`, `curve` (pairs of step and loss), `device`, `torch`, and `started_from`: the
modules that were taken over and the record of the run that had made them, or null for a part that began from nothing.
The distillation has null there too: it always goes on from the generator.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from sega.embedded.model import PIPELINE, WEIGHTS
from sega.errors import RequestError

PARTS = ("text", "autoencoder", "generator", "distillation", "scorer")
NAME = "training.json"


@dataclass(frozen=True)
class Budget:
    """How long a part is trained: `seconds`, or a number of `steps` where one is given."""

    seconds: float
    steps: int | None = None

    def done(self, step: int, started: float) -> float:
        """The share that is over, 1 or more at the end, after `step` steps since `started` (of `time.time`)."""
        return step / self.steps if self.steps else (time.time() - started) / self.seconds


def machine(device: str) -> dict:
    """The device by name, the threads of a CPU, and the version of torch."""
    if device.startswith("cuda"):
        return {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    return {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}


def started_from(folder: Path | None, part: str, modules: list[str]) -> dict | None:
    """What a continued run took over from a folder of weights; the curve of that run is left out."""
    if folder is None:
        return None
    before = read(folder).get(part, {})
    return {"modules": modules, "record": {key: value for key, value in before.items() if key != "curve"}}


def read(folder: Path) -> dict:
    """The records of a folder of weights, by part; empty where there is no record."""
    path = folder / NAME
    return json.loads(path.read_text()) if path.is_file() else {}


def write(folder: Path, part: str, record: dict) -> dict:
    """Put the record of a part into the folder's `training.json`; returns the record."""
    found = read(folder) | {part: record}
    (folder / NAME).write_text(json.dumps({name: found[name] for name in PARTS if name in found}, indent=1) + "\n")
    return record


def install(work: Path, weights: Path = WEIGHTS) -> None:
    """Copy what was trained in `work` over the weights of the package, and its records over theirs."""
    folders = [name for name in (PIPELINE.name, "scorer") if (work / name).is_dir()]
    if not folders:
        raise RequestError(f"nothing to install in {work}: train the distillation or the scorer there first")
    for name in folders:
        shutil.rmtree(weights / name, ignore_errors=True)
        shutil.copytree(work / name, weights / name)
    done = read(work)
    for part in PARTS:
        if part in done and ("scorer" if part == "scorer" else PIPELINE.name) in folders:
            write(weights, part, done[part])
