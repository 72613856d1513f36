"""The unit of a sweep: a method on a model at a size. Checked and identified before anything heavy is imported."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sega.engine.noise import NOISE_VERSION
from sega.errors import RequestError
from sega.loading import caching, parallel
from sega.loading.memory import tile
from sega.loading.weights import Absent, Weights, find_weights, fingerprint, source
from sega.methods.base import Method
from sega.methods.geometry import build_geometry
from sega.methods.registry import build_method
from sega.methods.sizes import check_size, parse_size
from sega.methods.stepping import read_stepping
from sega.methods.types import ImageRequest, Stage
from sega.run.checks import check_machine, check_model, check_sweep, check_tracker, parse_part, steps_of, whole_number
from sega.run.prompts import Prompt, load_prompts
from sega.store.cell_folder import RunFolder

if TYPE_CHECKING:
    from sega.loading.schema import ModelConfig
    from sega.run.schema import CellConfig


@dataclass(frozen=True)
class Cell:
    """A method on a model at a size, with prompts and seeds."""

    config: CellConfig
    model: ModelConfig
    method: Method
    weights: Weights | None  # None: not on this machine, which only a dry run accepts
    request: ImageRequest
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
    def in_order(self) -> list[tuple[Prompt, int]]:
        """The images in the order of this worker: its own share, then those of the others, to help them out."""
        part, parts = parse_part(self.config["part"])
        shares = [self.prompts[(part - 1 + step) % parts :: parts] for step in range(parts)]
        return [(prompt, seed) for share in shares for prompt in share for seed in self.seeds_of(prompt)]

    @property
    def label(self) -> str:
        """`tiny sega 384x384`, for messages."""
        return f"{self.model['name']} {self.method.name} {'x'.join(map(str, self.request.size))}"

    @cached_property
    def folder(self) -> RunFolder:
        """Where its images belong. Reads the weights for their hash, unless that is known."""
        return self.folder_for(fingerprint(self.weights))

    def folder_for(self, weights_hash: str) -> RunFolder:
        """Where its images would belong with weights of this hash."""
        place = self.model["name"], self.method.name, self.request.size
        about = identity(self, weights_hash, NOISE_VERSION)
        return RunFolder(self.config["store"], *place, about, lease=self.config["lease"])

    @property
    def unused(self) -> list[str]:
        """A sentence for each of `steps` and `guidance` that was given but changes no stage of the method."""
        found = []
        stages = self.method.stages(self.request)
        for key in ("steps", "guidance"):
            other = dataclasses.replace(self.request, **{key: getattr(self.request, key) + 1})
            if self.config[key] is not None and self.method.stages(other) == stages:
                own = [f"method.{name}" for name in self.config["method"] if name in (key, f"base_{key}")]
                found.append(f"{key}={self.config[key]} is not used: {self.method.name} has {' and '.join(own)}")
        return found


def build_cell(config: CellConfig) -> Cell:
    """The cell of a resolved config. Raises RequestError for whatever can't work."""
    model = config["model"]
    check_sweep(config)
    check_model(model)
    geometry = build_geometry(model["geometry"])
    method = build_method(config["method"], geometry)
    size = parse_size(config["res"], model["native"], geometry.token_pixels)
    check_size(size, geometry.token_pixels)
    steps = steps_of(config["steps"], model["steps"])
    guidance = config["guidance"] if config["guidance"] is not None else model["guidance"]
    if isinstance(guidance, bool) or not isinstance(guidance, int | float) or not 0 <= guidance < math.inf:
        raise RequestError(f"guidance={guidance} must be a number of at least 0")
    seeds = config["seeds"] if isinstance(config["seeds"], list) else [config["seeds"]]
    seeds = list(dict.fromkeys(whole_number("seeds", seed, 0, 2**63 - 1) for seed in seeds))
    if not seeds:
        raise RequestError("seeds=[] is empty; give at least one, such as seeds=[0]")
    parallel.check(model, method)
    check_machine(config, model)
    check_tracker(config["tracker"])
    prompts = load_prompts(config["prompts"])
    request = ImageRequest(size, steps, float(guidance))
    stepping = read_stepping(model)
    stepping.check(method)
    stages = stepping.stages(method, method.stages(request))
    caching.check(model, method, stages, config["record"])
    weights = _weights(model, config["dry_run"])
    return Cell(config, model, method, weights, request, stages, prompts, seeds)


def identity(cell: Cell, weights_hash: str, noise_version: str) -> dict[str, Any]:
    """Everything that changes pixels, and nothing else."""
    (stage, *more), model = cell.stages, cell.model
    direct = not more and not cell.method.staged
    return {
        "model": {"id": source(model), "weights": weights_hash, "dtype": model["dtype"], **_switches(model)},
        "method": {"name": cell.method.name, **_target(cell.config["method"]), **cell.method.identity()},
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


def _target(method: dict[str, Any]) -> dict[str, Any]:
    """Where the class of a method comes from, if the request says so."""
    return {"target": method["target"]} if "target" in method else {}


def _switches(model: ModelConfig) -> dict[str, Any]:
    """The settings of a model that change pixels only where they are used."""
    used = {key: model[key] for key in ("quantize", "attention", "compile") if model[key]}
    cache = caching.read_cache(model["cache"])
    used |= {"cache": str(cache)} if cache is not None else {}
    used |= read_stepping(model).identity()
    return {key: value for key, value in used.items() if value != "native"}  # the stock backend by its name


def _tiling(model: ModelConfig, size: tuple[int, int]) -> Any:
    """Longest side of a tile in px where this size is decoded in tiles, else False."""
    side = tile(model)
    return side if side is not None and max(size) > side else False


def _weights(model: ModelConfig, dry_run: bool) -> Weights | None:
    try:
        return find_weights(model | {"download": model["download"] and not dry_run})
    except Absent:
        if not dry_run:
            raise
        return None


def file_name(prompt: Prompt, seed: int) -> str:
    """The name of an image in its folder."""
    return f"{prompt.id}-{seed}.png"
