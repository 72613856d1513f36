"""Run measures over images: each image is decoded once for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from ..metrics.learned import weights
from ..metrics.learned.networks import Source, find
from ..metrics.learned.weights import MissingWeightsError
from ..metrics.measures import Batch, Context, base_period, crop_size, seam_period
from ..metrics.registry import measures
from ..metrics.types import Measure, filled, option, version
from ..options import usable_device
from ..records import images
from ..records.files import digest


@dataclass(frozen=True)
class Item:
    """An image to measure. `load` gives uint8 [H, W, 3] or raises `images.DamagedError`."""

    load: Callable[[], np.ndarray]
    key: tuple[str, int]
    prompt: str | None = None
    pixels: int = 2**20  # about; larger for an item that takes longer than decoding
    number: int = 0  # its place in the set


@dataclass
class Setting:
    """Everything that measures depend on besides the images. No network is loaded to find it."""

    config: dict[str, Any]
    native: int | None
    sources: dict[str, Source]
    reasons: dict[str, str]  # measure -> why it is not available
    identities: dict[str, str]  # measure -> hash of everything its values depend on besides the image
    files: dict[
        str, str
    ]  # sha256 of files that measures load besides networks, by name in `eval.metrics.learned.weights`

    def context(self) -> Context:
        """Return a context that loads networks at first use, on the device that `device=auto` selects."""
        config = self.config | {"device": usable_device(self.config["device"])}
        return Context(config, self.native, self.sources)


def resolve(names: Sequence[str], config: dict[str, Any], native: int | None) -> Setting:
    """Return sources and identities of measures, and the reason for each measure that is not available."""
    sources, reasons, identities, loaded = {}, {}, {}, {}
    for name in names:
        measure = measures()[name]
        kind = network_of(measure, config)
        if measure.only and kind not in measure.only.split("|"):
            allowed = measure.only.replace("|", " or ")
            reasons[name] = f"{name} can be read by {allowed} only, not by {kind} ({measure.network}={allowed})"
            continue
        try:
            if kind and kind not in sources:
                sources[kind] = find(kind, config)
            files = {file: weights.find(file, config["weights"])[1] for file in weight_names(measure, config)}
        except MissingWeightsError as error:
            reasons[name] = str(error)
            continue
        settings = {key: _setting(key, config, native) for key in measure.settings}
        if None in settings.values():
            key = next(key for key, value in settings.items() if value is None)
            reasons[name] = f"the training size of the model is not known; give {key}=<pixels>"
            continue
        settings |= {key: option(config, key) for key, default in measure.later if option(config, key) != default}
        network = (kind, sources[kind].weights) if kind else None
        loaded |= files
        rest = [list(files.values())] if files else []
        identities[name] = digest([name, version(measure.version), settings, network, *rest])
    return Setting(config, native, sources, reasons, identities, loaded)


def network_of(measure: Measure, config: dict[str, Any]) -> str:
    """Return the kind of network that a measure runs, "" for none."""
    if not measure.network:
        return ""
    return {"features": config["features"], "clip.model": config["clip"]["model"]}.get(measure.network, measure.network)


def weight_names(measure: Measure, config: dict[str, Any]) -> list[str]:
    """Return the entries of `eval.metrics.learned.weights` that a measure loads."""
    return [filled(name, config) for name in measure.weights]


def _setting(key: str, config: dict[str, Any], native: int | None) -> Any:
    if key == "patch.size":
        return crop_size(config, native)
    if key == "seam.period":
        return seam_period(config, native)
    if key == "repetition.period":
        return base_period(config, native)
    return option(config, key)


def collect(
    items: Sequence[Item], wanted: Sequence[Sequence[str]], context: Context, progress: str = ""
) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Measure items. `wanted[i]` lists the measures of item i; an item without measures is not decoded.

    Large jobs decode on worker processes, which also compute what needs no network; networks run here. Returns a dict
    of values for each item, and the reasons of damaged ones by index.
    """
    from tqdm import tqdm

    values: list[dict[str, Any]] = [{} for _ in items]
    damaged: dict[int, str] = {}
    todo = [i for i, names in enumerate(wanted) if names]
    config = context.config
    workers = config["workers"] if sum(items[i].pixels for i in todo) >= WORTH else 0
    off = {i: [name for name in wanted[i] if on_workers(name, config)] for i in todo}
    here = {i: [name for name in wanted[i] if name not in off[i]] for i in todo}
    options = json.dumps(config, sort_keys=True), context.native
    tasks = [partial(_task, items[i], tuple(off[i]), options, bool(here[i])) for i in todo]
    functions: dict[str, Callable[[Batch], list]] = {}
    # Where stderr is no terminal (disable=None) there is no bar: it would fill a log.
    quiet = True if not progress or not todo else None
    bar = tqdm(total=len(todo), desc=progress, unit="image", leave=False, disable=quiet, dynamic_ncols=True)

    def decoded() -> Iterator[np.ndarray | images.DamagedError]:
        for i, found in zip(todo, images.results(tasks, workers), strict=True):
            bar.update()
            if isinstance(found, images.DamagedError):
                yield found
                continue
            image, measured = found
            values[i].update(measured)
            yield image

    with bar:
        for indices, array, broken in images.batches(decoded(), config["batch"]):
            damaged.update({todo[k]: reason for k, reason in broken.items()})
            places = [todo[k] for k in indices]
            for names in sorted({tuple(here[i]) for i in places if here[i]}):
                group = [k for k, i in enumerate(places) if tuple(here[i]) == names]
                rows = [items[places[k]] for k in group]
                about = [row.key for row in rows], [row.prompt for row in rows], [row.number for row in rows]
                batch = Batch(array[group], *about)
                for name in names:
                    if name not in functions:
                        functions[name] = measures()[name].function()(context)
                    for k, value in zip(group, functions[name](batch), strict=True):
                        values[places[k]][name] = value
    return values, damaged


WORTH = 2**26
"""A job with fewer pixels starts no worker processes, because starting them takes longer."""
NOTHING = np.empty((1, 1, 3), np.uint8)
"""Placeholder for an image that no measure in this process needs."""


def on_workers(name: str, config: dict[str, Any]) -> bool:
    """Return whether a worker process computes a measure: one without a network, unless a GPU is faster."""
    host = measures()[name].host
    return host == "always" or (host == "cpu" and config["device"] == "cpu")


def _task(
    item: Item, names: tuple[str, ...], options: tuple[str, int | None], keep: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    image = item.load()
    batch = Batch(image[None], [item.key], [item.prompt], [item.number])
    values = {name: _host_function(name, *options)(batch)[0] for name in names}
    return image if keep else NOTHING, values


@cache
def _host_function(name: str, config: str, native: int | None) -> Callable[[Batch], list]:
    return measures()[name].function()(Context(json.loads(config), native, {}))
