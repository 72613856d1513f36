"""Run measures over pictures: each picture is decoded once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from eval import images, weights
from eval.measures import Batch, Context, base_period, crop_size, seam_period
from eval.metrics import MEASURES, Measure, version
from eval.networks import Source, find
from eval.records import digest
from eval.weights import MissingWeightsError


@dataclass(frozen=True)
class Item:
    """A picture to measure. `load` gives uint8 [H, W, 3] or raises `images.DamagedError`."""

    load: Callable[[], np.ndarray]
    key: tuple[str, int]
    prompt: str | None = None


@dataclass
class Setting:
    """What a set of measures depends on besides the pictures, resolved without loading any network."""

    config: dict[str, Any]
    native: int | None
    sources: dict[str, Source]
    reasons: dict[str, str]  # measure -> why it can't be computed
    identities: dict[str, str]  # measure -> hash of everything its values depend on besides the picture

    def context(self) -> Context:
        """A context that loads networks when they are first used."""
        return Context(self.config, self.native, self.sources)


def resolve(names: Sequence[str], config: dict[str, Any], native: int | None) -> Setting:
    """Sources and identities of measures, and a reason for each that can't be had."""
    sources, reasons, identities = {}, {}, {}
    for name in names:
        measure = MEASURES[name]
        try:
            kind = _network(measure, config)
            if kind and kind not in sources:
                sources[kind] = find(kind, config)
            files = [weights.find(file, config["weights"])[1] for file in weight_names(measure, config)]
        except MissingWeightsError as error:
            reasons[name] = str(error)
            continue
        settings = {key: _setting(key, config, native) for key in measure.settings}
        if None in settings.values():
            key = next(key for key, value in settings.items() if value is None)
            reasons[name] = f"the training size of the model is not known; give {key}=<pixels>"
            continue
        if name == "attributes" and kind != "embedded":
            reasons[name] = "attributes can be read by the embedded scorer only (clip.model=embedded)"
            continue
        network = (kind, sources[kind].weights) if kind else None
        rest = [files] if files else []
        identities[name] = digest([name, version(measure.version), settings, network, *rest])
    return Setting(config, native, sources, reasons, identities)


def _network(measure: Measure, config: dict[str, Any]) -> str:
    if not measure.network:
        return ""
    return {"features": config["features"], "clip.model": config["clip"]["model"]}.get(measure.network, measure.network)


def weight_names(measure: Measure, config: dict[str, Any]) -> list[str]:
    """Entries of `eval.weights` that a measure loads under these options."""
    names = []
    for name in measure.weights:
        before, _, key = name.partition("{")
        if key:
            group, option = key.rstrip("}").split(".")
            name = before + config[group][option]
        names.append(name)
    return names


def _setting(key: str, config: dict[str, Any], native: int | None) -> Any:
    if key == "patch.size":
        return crop_size(config, native)
    if key == "seam.period":
        return seam_period(config, native)
    if key == "repetition.period":
        return base_period(config, native)
    group, name = key.split(".")
    return config[group][name]


def collect(
    items: Sequence[Item], wanted: Sequence[Sequence[str]], context: Context, progress: str = ""
) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Measure items; `wanted[i]` names the measures of item i, and an item that wants none is not decoded.

    Returns a dict of values for each item, and the reasons of damaged ones by index.
    """
    from tqdm import tqdm

    values: list[dict[str, Any]] = [{} for _ in items]
    damaged: dict[int, str] = {}
    todo = [i for i, names in enumerate(wanted) if names]
    functions: dict[str, Callable[[Batch], list]] = {}
    config = context.config
    bar = tqdm(total=len(todo), desc=progress, unit="picture", leave=False, disable=not progress or not todo)
    with bar:
        for indices, pictures, broken in images.batches(
            [items[i].load for i in todo], config["batch"], config["workers"]
        ):
            damaged.update({todo[k]: reason for k, reason in broken.items()})
            places = [todo[k] for k in indices]
            for names in sorted({tuple(wanted[i]) for i in places}):
                group = [k for k, i in enumerate(places) if tuple(wanted[i]) == names]
                rows = [items[places[k]] for k in group]
                batch = Batch(pictures[group], [row.key for row in rows], [row.prompt for row in rows])
                for name in names:
                    if name not in functions:
                        functions[name] = _function(name)(context)
                    for k, value in zip(group, functions[name](batch), strict=True):
                        values[places[k]][name] = value
            bar.update(len(indices) + len(broken))
    return values, damaged


def _function(name: str) -> Callable[[Context], Callable[[Batch], list]]:
    module, function = MEASURES[name].compute.split(":")
    return getattr(import_module(module), function)
