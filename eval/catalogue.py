"""Print all metrics as a Markdown table: `python -m eval.catalogue`.

The table contains version, direction, unit, needs, preprocessing and weights. `eval=` selects the protocol (`plain` by
default), and any of its options may follow. Weights are shown with the start of their sha256, or as "absent".
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from .metrics.learned import weights
from .metrics.learned.networks import find
from .metrics.registry import is_voted, measures, metrics
from .metrics.types import Measure, title, version
from .options import command, split_words
from .output.markup import align
from .protocols import load_protocol
from .scoring.collect import network_of, weight_names

HEAD = ["metric", "name", "version", "better", "unit", "needs", "weights", "preprocessing"]


def main(words: list[str]) -> int:
    """Print the table; returns the exit status."""

    def run(words: list[str]) -> int:
        options, rest = split_words(words, {"eval": "plain"})
        print(table(load_protocol(options["eval"], rest)), end="")
        return 0

    return command(words, lambda: str(__doc__), run)


def table(config: dict[str, Any]) -> str:
    """Return a table with one row per metric. The metrics of the protocol are first."""
    body = []
    for name in dict.fromkeys([*config["metrics"], *(name for name in metrics() if not is_voted(name))]):
        metric = metrics()[name]
        measure = measures()[metric.measure]
        better = ("higher" if metric.higher_is_better else "lower") if metric.ranked else "see docs"
        needs = [*(["references"] if metric.references else []), *measure.needs]
        versions = dict.fromkeys((version(metric.version), version(measure.version)))
        body.append(
            [
                title(metric, config),
                metric.name,
                " / ".join(versions),
                better,
                metric.unit,
                ", ".join(needs),
                ", ".join(weights_of(measure, config)),
                measure.preprocessing,
            ]
        )
    return align(HEAD, body)


def weights_of(measure: Measure, config: dict[str, Any]) -> list[str]:
    """Return the networks and files of a measure, each with the start of its sha256 or "absent"."""
    looks: dict[str, Callable[[], str]] = {}
    if kind := network_of(measure, config):
        looks[kind] = lambda: find(kind, config).weights
    for name in weight_names(measure, config):
        looks[name] = partial(_sha, name, config["weights"])
    found = []
    for name, look in looks.items():
        try:
            found.append(f"{name} {look()[:12]}")
        except weights.MissingWeightsError:
            found.append(f"{name} absent")
    return found


def _sha(name: str, folder: str | None) -> str:
    return weights.find(name, folder)[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
