"""What a measure and a metric declare about themselves.

A `Measure` is computed for one image and kept (a number in `scores.jsonl`, or an array in the features file).
A `Metric` is a column of the table: the mean of a measure over images, or a distance between sets of arrays.
Raise `version` whenever a change moves values: scores with another version are computed again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

DISTANCES = ("fid", "kid", "cmmd")
KINDS = ("mean", *DISTANCES, "spectrum", "high_frequency")
"""What a metric may be: the mean of a measure, a distance to references, or a difference from their spectra."""


@dataclass(frozen=True)
class Measure:
    """One quantity of one image."""

    name: str
    version: str  # "package:<name>" adds the installed version of that package
    compute: str  # "package.module:function", or ".module:function" beside this file: see `function`
    array: bool = False
    network: str = ""  # the network it runs: config key "features" | "clip.model", or an open_clip name
    weights: tuple[str, ...] = ()  # entries of `eval.metrics.weights` it loads; {key} stands for an option
    settings: tuple[str, ...] = ()  # config keys that change its value
    needs: tuple[str, ...] = ()  # "prompt", "world" (a caption of the embedded world), "crop", "period", "lattice"
    preprocessing: str = "RGB uint8 as stored"
    host: str = ""  # "always" computed where images are decoded | "cpu" there unless a GPU is used
    only: str = ""  # the one kind of `network` that can compute it

    def function(self) -> Callable[[Any], Callable[[Any], list[Any]]]:
        """What computes it: takes a Context, gives a function of a Batch that returns a value for each image."""
        module, name = self.compute.split(":")
        return getattr(import_module(module, __package__), name)


@dataclass(frozen=True)
class Metric:
    """One column of the table."""

    name: str
    title: str
    version: str
    higher_is_better: bool
    unit: str
    measure: str
    kind: str  # one of KINDS
    settings: tuple[str, ...] = ()
    references: bool = False
    parts: tuple[str, ...] = ()  # further means a dict-valued measure gives
    digits: int = 2
    ranked: bool = True  # whether the extreme value is the best one, so that it may be marked
    about: str = ""
    detail: str = ""  # after the title; {key} stands for an option of the protocol, {crop} for the side of a crop

    @property
    def is_distance(self) -> bool:
        """Whether it is a distance between sets, and not a mean over images."""
        return self.kind in DISTANCES

    @property
    def value(self) -> str:
        """What an image's row in `scores.jsonl` calls the number this is the mean of."""
        return {"spectrum": "spectrum_distance", "high_frequency": "high_frequency"}.get(self.kind, self.measure)


def version(text: str) -> str:
    """The version of an entry; for `package:<name>` the package and its installed version."""
    if not text.startswith("package:"):
        return text
    from importlib.metadata import version as installed

    return f"{text[8:]} {installed(text[8:])}"


def title(metric: Metric, config: dict[str, Any], crop: int | None = None) -> str:
    """The name that goes over a column, with what a reader must know to compare it."""
    return metric.title + filled(metric.detail.replace("{crop}", str(crop or "?")), config)


def filled(text: str, config: dict[str, Any]) -> str:
    """A text with the value of an option in place of each `{key}`, such as `{hps.version}`."""
    return re.sub(r"\{([\w.]+)\}", lambda match: str(option(config, match[1])), text)


def option(config: dict[str, Any], key: str) -> Any:
    """The value of a dotted key of a protocol."""
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value
