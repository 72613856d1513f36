"""Checks of the settings of a cell that need nothing loaded. Each raises RequestError for what can't work."""

from __future__ import annotations

import importlib.util
import math
import os
import re
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError, check_folder, check_name, near
from sega.loading.caching import read_cache
from sega.loading.memory import MODES
from sega.loading.placement import QUANTIZE
from sega.methods.families import family_named
from sega.methods.sizes import is_multiple
from sega.methods.stepping import read_stepping
from sega.run.machines import CARDS

if TYPE_CHECKING:
    from sega.loading.schema import ModelConfig
    from sega.run.schema import CellConfig, TrackerConfig

DTYPES = ("float32", "bfloat16", "float16")
TRACKERS = ("none", "wandb")
RECORDS = ("profiles", "magnitudes", "spectrum", "attention")


def check_model(model: ModelConfig) -> None:
    check_name("model.name", model["name"])
    if model["text_cache"] is not None:
        cache = model["text_cache"]
        check_folder("model.text_cache", os.path.expanduser(cache) if isinstance(cache, str) else cache)
    if model["dtype"] not in DTYPES:
        raise RequestError(f"model.dtype={model['dtype']} is unknown{near(model['dtype'], DTYPES)}")
    whole_number("model.native", model["native"], 1, 2**20)
    if not isinstance(model["vae_tiling"], bool):
        raise RequestError(f"model.vae_tiling={model['vae_tiling']} must be true or false")
    whole_number("model.vae_tile", model["vae_tile"], 512, 2**20)
    for key, known in (("memory", MODES), ("quantize", (None, *QUANTIZE))):
        if model[key] not in known:
            raise RequestError(f"model.{key}={model[key]} is unknown{near(model[key], [k for k in known if k])}")
    read_cache(model["cache"])
    if model["parallel"]:
        for key, value in read_stepping(model).identity().items():
            raise RequestError(f"model.{key}={value} was not made for model.parallel; leave one of them out")
    for key in ("compile", "download"):
        if not isinstance(model[key], bool):
            raise RequestError(f"model.{key}={model[key]} must be true or false")
    if model["negative_prompt"] and family_named(model["geometry"]["family"]).guided is None:
        raise RequestError(f"model.negative_prompt: {model['name']} takes none, its guidance is distilled; use null")
    budget = model["budget_gb"]
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int | float) or budget <= 0):
        raise RequestError(f"model.budget_gb={budget} must be a number above 0, or null")


def check_machine(config: CellConfig, model: ModelConfig) -> None:
    device = str(config["device"])
    if device in CARDS and not config["dry_run"]:
        raise RequestError(
            f"device={device} is a card that a dry run reckons with; add dry_run=true, or run on device=cuda"
        )
    if device not in CARDS and not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise RequestError(f"device={device} is unknown{near(device, ('auto', 'cpu', 'cuda', 'cuda:0', *CARDS))}")
    if device == "cpu" and model["dtype"] == "float16":
        raise RequestError("model.dtype=float16 does not work on a CPU; use float32 or bfloat16")
    if device == "cpu" and model["memory"] not in ("auto", "gpu"):
        raise RequestError(f"model.memory={model['memory']} moves weights to a GPU and back; with device=cpu use auto")
    for item in config["record"] if isinstance(config["record"], list) else [config["record"]]:
        if item not in RECORDS:
            raise RequestError(f"record={item} is unknown{near(item, RECORDS)}")
    query = config["query"]
    if not isinstance(query, list) or len(query) != 2 or not all(_is_fraction(value) for value in query):
        raise RequestError(f"query={query} must be a place x,y as fractions of the image, such as query=[0.5,0.7]")
    if not isinstance(config["exact_time"], bool):
        raise RequestError(f"exact_time={config['exact_time']} must be true or false")
    if not isinstance(config["dry_run"], bool):
        raise RequestError(f"dry_run={config['dry_run']} must be true or false")
    rate = config["tflops"]
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf):
        raise RequestError(f"tflops={rate} must be a number above 0, or null for what is known of the device")
    check_folder("store", config["store"])


def _is_fraction(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def check_tracker(tracker: TrackerConfig) -> None:
    name = tracker["name"]
    if name not in TRACKERS:
        raise RequestError(f"tracker={name} is unknown{near(name, TRACKERS)}")
    if name == "wandb":
        if tracker["mode"] not in ("offline", "online"):
            raise RequestError(f"tracker.mode={tracker['mode']} must be offline or online")
        if importlib.util.find_spec("wandb") is None:
            raise RequestError("tracker=wandb needs the package wandb; install it or use tracker=none")


def check_sweep(config: CellConfig) -> None:
    """The options of a sweep: the share of this worker, the lease of its claims, what to try again."""
    parse_part(config["part"])
    lease = config["lease"]
    if isinstance(lease, bool) or not isinstance(lease, int | float) or not 1 <= lease <= 86400:
        raise RequestError(f"lease={lease} must be a number of seconds from 1 to 86400")
    if not isinstance(config["retry_failed"], bool):
        raise RequestError(f"retry_failed={config['retry_failed']} must be true or false")


def parse_part(part: Any) -> tuple[int, int]:
    """(i, n) of `i/n`, i from 1; (1, 1) for null."""
    if part is None:
        return 1, 1
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(part))
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise RequestError(f"part={part} must be i/n with i from 1 to n, such as part=1/4")
    return int(match[1]), int(match[2])


def steps_of(wish: Any, own: int) -> int:
    """The steps of a request: `N`, or `Fx` for F times the model's own, rounded; null is the model's own."""
    if not is_multiple(wish):
        return whole_number("steps", own if wish is None else wish, 1, 1000)
    steps = round(float(str(wish).strip().lower()[:-1]) * own)
    if not 1 <= steps <= 1000:
        raise RequestError(f"steps={wish} of the model's {own} steps is {steps}; give 1 to 1000, such as steps=0.5x")
    return steps


def whole_number(key: str, value: Any, low: int, high: int) -> int:
    """`value` as a whole number between two bounds, both included."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RequestError(f"{key}={value} must be a whole number from {low} to {high}")
    return value
