"""Types of the declarations of measures and metrics.

A `Measure` is computed for one image and stored (a number in `scores.jsonl`, or an array in the features file).
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
VOTES = "votes"
"""Kind of the metric that is no measure of images: `eval.votes` makes it of votes when a table is read."""
SETS = ("is", "precision", "recall", "density", "coverage")
KINDS = ("mean", *DISTANCES, *SETS, "spectrum", "high_frequency", "harmonic")
"""Kinds of metrics: the mean of a measure, a distance to references, another value of a whole set (Inception Score,
precision and so on), a difference from the spectra of references, or the harmonic mean of a measure, which for ratios
with equal numerators is the ratio of the totals."""
OTHERS = {"lite0": "EfficientNet-Lite0", "dinov2": "DINOv2"}
"""Networks of `features` on which a distance is neither FID nor KID, with their names in titles."""


@dataclass(frozen=True)
class Measure:
    """One quantity of one image."""

    name: str
    version: str  # "package:<name>" adds the installed version of that package
    compute: str  # "package.module:function", or ".module:function" beside this file: see `function`
    array: bool = False
    network: str = ""  # the network it runs: config key "features" | "clip.model", or an open_clip name
    weights: tuple[str, ...] = ()  # entries of `eval.metrics.learned.weights` it loads; {key} stands for an option
    settings: tuple[str, ...] = ()  # config keys that change its value
    # settings that came later, with the defaults that leave its identity as it was
    later: tuple[tuple[str, Any], ...] = ()
    # "prompt", "world" (a caption of the embedded world), "crop", "period", "lattice", "tile"
    needs: tuple[str, ...] = ()
    preprocessing: str = "RGB uint8 as stored"
    host: str = ""  # "always" computed where images are decoded | "cpu" there unless a GPU is used
    only: str = ""  # the kinds of `network` that can compute it, with | between them
    # for prompts that it cuts, as `compute`: a function of the options that returns how many tokens its text encoder
    # takes, and a function that counts those of a prompt
    tokens: str = ""

    def function(self, place: str = "") -> Callable[[Any], Any]:
        """Return the function at `place`, by default the one that computes it.

        That takes a Context and returns a function of a Batch.
        """
        module, name = (place or self.compute).split(":")
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
    parts: tuple[str, ...] = ()  # further means of a measure whose value is a dict
    digits: int = 2
    ranked: bool = True  # whether the extreme value is the best one, so that it may be marked
    about: str = ""
    detail: str = ""  # after the title; {key} stands for an option of the protocol, {crop} for the side of a crop
    general: str = ""  # its title on features of another network than FID's, as "FD" for FID

    @property
    def is_distance(self) -> bool:
        """Whether it is a distance between sets, and not a mean over images."""
        return self.kind in DISTANCES

    @property
    def is_of_set(self) -> bool:
        """Whether no image alone has a value of it."""
        return self.kind in DISTANCES + SETS

    @property
    def value(self) -> str:
        """Name of the averaged number in the rows of `scores.jsonl`."""
        return {"spectrum": "spectrum_distance", "high_frequency": "high_frequency"}.get(self.kind, self.measure)

    def verdict(self, difference: float) -> str:
        """Return what a difference that is shown says: "better", "worse", or "differs" without a better direction."""
        if not self.ranked:
            return "differs"
        return "better" if (difference > 0) == self.higher_is_better else "worse"


def version(text: str) -> str:
    """Return the version of an entry. For `package:<name>` it is the package and its installed version."""
    if not text.startswith("package:"):
        return text
    from importlib.metadata import version as installed

    return f"{text[8:]} {installed(text[8:])}"


def title(metric: Metric, config: dict[str, Any], crop: int | None = None) -> str:
    """Return the title of a column, with the options that are needed to compare it."""
    short = short_title(metric, config)
    detail = filled(metric.detail.replace("{crop}", str(crop or "?")), config)
    return short + detail if short == metric.title or not detail else f"{short[:-1]}, {detail.removeprefix(' (')}"


def short_title(metric: Metric, config: dict[str, Any]) -> str:
    """Return the title without options.

    FID, KID and Inception Score are defined by one network. On another the title is general and names it, as in "FD
    (EfficientNet-Lite0)".
    """
    network = OTHERS.get(config.get("features", ""))
    return f"{metric.general} ({network})" if metric.general and network else metric.title


def filled(text: str, config: dict[str, Any]) -> str:
    """Replace each `{key}` in a text, such as `{hps.version}`, by the value of the option."""
    return re.sub(r"\{([\w.]+)\}", lambda match: str(option(config, match[1])), text)


def option(config: dict[str, Any], key: str) -> Any:
    """Return the value of a dotted key of a protocol."""
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value
