"""Find measures and metrics by name: those of this project, then those of installed packages.

A package adds its own with an entry point of the group `sega_bench.metrics`. docs/evaluation.md has an example.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from sega import plugins
from sega.errors import shortened

from .our_measures import MEASURES
from .our_metrics import METRICS
from .types import KINDS, VOTES, Measure, Metric

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def measures() -> dict[str, Measure]:
    """Return every measure by name."""
    return _found()[0]


def metrics() -> dict[str, Metric]:
    """Return every metric by name, in the order of the table. Wrong entries of a package raise RequestError."""
    return _found()[1]


def is_metric(name: str) -> bool:
    """Whether there is a metric of this name. Other packages are only looked at where none is built in."""
    return any(item.name == name for item in METRICS) or name in metrics()


def is_voted(name: str) -> bool:
    """Whether a metric is made of votes and can't be scored."""
    return any(item.name == name and item.kind == VOTES for item in METRICS)


@cache
def _found() -> tuple[dict[str, Measure], dict[str, Metric]]:
    measures = {item.name: item for item in MEASURES}
    metrics = {item.name: item for item in METRICS}
    for entry in sorted(plugins.entries("metrics").values(), key=lambda entry: (plugins.package_of(entry), entry.name)):
        items = _load(entry)
        for kind, known in ((Measure, measures), (Metric, metrics)):
            for item in items:
                if isinstance(item, kind):
                    if item.name in known:
                        raise plugins.broken(entry, f"there is a {kind.__name__.lower()} {item.name} already")
                    known[item.name] = item
        for item in items:
            if why := _misfit(item, measures):
                raise plugins.broken(entry, f"{item.name} {why}")
    return measures, metrics


def _load(entry: EntryPoint) -> list[Measure | Metric]:
    value = plugins.load(entry)
    with plugins.blamed(entry):
        items = list(value() if callable(value) else value)
    for item in items:
        if not isinstance(item, Measure | Metric):
            raise plugins.broken(entry, f"{shortened(item)} is neither a Measure nor a Metric")
    return items


def _misfit(item: Measure | Metric, measures: dict[str, Measure]) -> str:
    """Return the mistake in an entry of another package, "" if it is right."""
    if isinstance(item, Metric):
        if item.measure not in measures:
            return f"has an unknown measure {item.measure}"
        return "" if item.kind in KINDS else f"has kind {item.kind}, which is not one of {', '.join(KINDS)}"
    module, colon, function = item.compute.partition(":")
    if not module or module.startswith(".") or not colon or not function:
        return f"has compute={item.compute}, which must have the form package.module:function"
    from .learned.weights import WEIGHTS

    unknown = [name for name in item.weights if "{" not in name and name not in WEIGHTS]
    return f"has unknown weights {unknown[0]}; a measure may load its own" if unknown else ""
