"""A resolved configuration checked and turned into a cell, before anything heavy is imported."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import re
from dataclasses import dataclass
from typing import Any

from sega.errors import RequestError, check_folder, check_name, near
from sega.loading import parallel
from sega.loading.memory import MODES, tile
from sega.loading.pipeline import Absent, Weights, find_weights, source
from sega.loading.placement import QUANTIZE
from sega.methods.base import Method
from sega.methods.geometry import build_geometry
from sega.methods.registry import build_method
from sega.methods.sizes import check_size, parse_size
from sega.methods.types import Request, Stage
from sega.models import GUIDED
from sega.run.prompts import Prompt, load_prompts

DTYPES = ("float32", "bfloat16", "float16")
TRACKERS = ("none", "wandb")
RECORDS = ("profiles", "magnitudes", "spectrum", "attention")
"""The largest multiple of the training side in `res`; above it 128x would be taken for more than a slip of 128x128."""


@dataclass(frozen=True)
class Cell:
    """A method on a model at a size, with prompts and seeds."""

    config: dict[str, Any]  # resolved, plain
    model: dict[str, Any]
    method: Method
    weights: Weights | None  # None: not on this machine, which only a dry run accepts
    request: Request
    stages: list[Stage]
    prompts: list[Prompt]
    seeds: list[int]

    @property
    def images(self) -> list[tuple[Prompt, int]]:
        return [(prompt, seed) for prompt in self.prompts for seed in self.seeds_of(prompt)]

    def seeds_of(self, prompt: Prompt) -> list[int]:
        """Its own seed where its file gives one, else those of the cell."""
        return self.seeds if prompt.seed is None else [prompt.seed]

    @property
    def unused(self) -> list[str]:
        """A sentence for each of `steps` and `guidance` that was given but changes no stage of the method."""
        found = []
        for key in ("steps", "guidance"):
            other = dataclasses.replace(self.request, **{key: getattr(self.request, key) + 1})
            if self.config[key] is not None and self.method.stages(other) == self.stages:
                own = [f"method.{name}" for name in self.config["method"] if name in (key, f"base_{key}")]
                found.append(f"{key}={self.config[key]} is not used: {self.method.name} has {' and '.join(own)}")
        return found


def plan(config: dict[str, Any]) -> Cell:
    """The cell of a resolved config. Raises RequestError for whatever can't work."""
    model = config["model"]
    _check_model(model)
    geometry = build_geometry(model["geometry"])
    method = build_method(config["method"], geometry)
    size = parse_size(config["res"], model["native"], geometry.token_pixels)
    check_size(size, geometry.token_pixels)
    steps = _whole("steps", config["steps"] if config["steps"] is not None else model["steps"], 1, 1000)
    guidance = config["guidance"] if config["guidance"] is not None else model["guidance"]
    if isinstance(guidance, bool) or not isinstance(guidance, int | float) or not 0 <= guidance < math.inf:
        raise RequestError(f"guidance={guidance} must be a number of at least 0")
    seeds = config["seeds"] if isinstance(config["seeds"], list) else [config["seeds"]]
    seeds = list(dict.fromkeys(_whole("seeds", seed, 0, 2**63 - 1) for seed in seeds))
    if not seeds:
        raise RequestError("seeds=[] is empty; give at least one, such as seeds=[0]")
    parallel.check(model, method)
    _check_machine(config, model)
    _check_tracker(config["tracker"])
    prompts = load_prompts(config["prompts"])
    request = Request(size, steps, float(guidance))
    weights = _weights(model, config["dry_run"])
    return Cell(config, model, method, weights, request, method.stages(request), prompts, seeds)


def identity(cell: Cell, weights_hash: str, noise_version: str) -> dict[str, Any]:
    """Everything that changes pixels, and nothing else."""
    (stage, *more), model = cell.stages, cell.model
    direct = not more and not cell.method.staged
    return {
        "model": {"id": source(model), "weights": weights_hash, "dtype": model["dtype"], **_switches(model)},
        "method": {"name": cell.method.name, **cell.method.parameters()},
        "size": list(cell.request.size),
        "steps": stage.steps if direct else None,
        "guidance": stage.guidance if direct else None,
        "schedule": stage.schedule if direct else None,
        "stages": None if direct else [item.identity() for item in cell.stages],
        "negative_prompt": model["negative_prompt"],
        "text_tokens": model["geometry"]["text_tokens"],
        "vae_tiling": _tiling(model, cell.request.size),
        "exact_time": cell.config["exact_time"],
        "noise": f"sha256(purpose, seed, size, prompt) -> CPU generator, version {noise_version}",
    }


def _switches(model: dict[str, Any]) -> dict[str, Any]:
    """The settings of a model that change pixels only where they are used."""
    used = {key: model[key] for key in ("quantize", "attention", "compile") if model[key]}
    return {key: value for key, value in used.items() if value != "native"}  # the stock backend by its name


def _tiling(model: dict[str, Any], size: tuple[int, int]) -> Any:
    """Longest side of a tile in px where this size is decoded in tiles, else False."""
    side = tile(model)
    return side if side is not None and max(size) > side else False


def _weights(model: dict[str, Any], dry_run: bool) -> Weights | None:
    try:
        return find_weights(model | {"download": model["download"] and not dry_run})
    except Absent:
        if not dry_run:
            raise
        return None


def _check_model(model: dict[str, Any]) -> None:
    check_name("model.name", model["name"])
    if model["text_cache"] is not None:
        cache = model["text_cache"]
        check_folder("model.text_cache", os.path.expanduser(cache) if isinstance(cache, str) else cache)
    if model["dtype"] not in DTYPES:
        raise RequestError(f"model.dtype={model['dtype']} is unknown{near(model['dtype'], DTYPES)}")
    _whole("model.native", model["native"], 1, 2**20)
    if not isinstance(model["vae_tiling"], bool):
        raise RequestError(f"model.vae_tiling={model['vae_tiling']} must be true or false")
    _whole("model.vae_tile", model["vae_tile"], 512, 2**20)
    for key, known in (("memory", MODES), ("quantize", (None, *QUANTIZE))):
        if model[key] not in known:
            raise RequestError(f"model.{key}={model[key]} is unknown{near(model[key], [k for k in known if k])}")
    for key in ("compile", "download"):
        if not isinstance(model[key], bool):
            raise RequestError(f"model.{key}={model[key]} must be true or false")
    if model["negative_prompt"] and model["geometry"]["family"] not in GUIDED:
        raise RequestError(f"model.negative_prompt: {model['name']} takes none, its guidance is embedded; use null")
    budget = model["budget_gb"]
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int | float) or budget <= 0):
        raise RequestError(f"model.budget_gb={budget} must be a number above 0, or null")


def _check_machine(config: dict[str, Any], model: dict[str, Any]) -> None:
    device = str(config["device"])
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise RequestError(f"device={device} is unknown{near(device, ('auto', 'cpu', 'cuda', 'cuda:0'))}")
    if device == "cpu" and model["dtype"] == "float16":
        raise RequestError("model.dtype=float16 does not work on a CPU; use float32 or bfloat16")
    if device == "cpu" and model["memory"] not in ("auto", "gpu"):
        raise RequestError(f"model.memory={model['memory']} moves weights to a GPU and back; with device=cpu use auto")
    if device == "cpu" and model["quantize"]:
        raise RequestError(f"model.quantize={model['quantize']} needs a CUDA device; with device=cpu use null")
    for item in config["record"] if isinstance(config["record"], list) else [config["record"]]:
        if item not in RECORDS:
            raise RequestError(f"record={item} is unknown{near(item, RECORDS)}")
    query = config["query"]
    if not isinstance(query, list) or len(query) != 2 or not all(_is_fraction(value) for value in query):
        raise RequestError(f"query={query} must be a place x,y as fractions of the picture, such as query=[0.5,0.7]")
    if not isinstance(config["exact_time"], bool):
        raise RequestError(f"exact_time={config['exact_time']} must be true or false")
    if not isinstance(config["dry_run"], bool):
        raise RequestError(f"dry_run={config['dry_run']} must be true or false")
    rate = config["tflops"]
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise RequestError(f"tflops={rate} must be a number above 0")
    check_folder("store", config["store"])


def _is_fraction(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _check_tracker(tracker: dict[str, Any]) -> None:
    name = tracker["name"]
    if name not in TRACKERS:
        raise RequestError(f"tracker={name} is unknown{near(name, TRACKERS)}")
    if name == "wandb":
        if tracker["mode"] not in ("offline", "online"):
            raise RequestError(f"tracker.mode={tracker['mode']} must be offline or online")
        if importlib.util.find_spec("wandb") is None:
            raise RequestError("tracker=wandb needs the package wandb; install it or use tracker=none")


def _whole(key: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RequestError(f"{key}={value} must be a whole number from {low} to {high}")
    return value
