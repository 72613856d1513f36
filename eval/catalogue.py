"""`python -m eval.catalogue`: every metric with what a reader must know to compare it, as Markdown.

Version, direction, unit, what it needs, preprocessing, and the weights it runs on under a protocol (`eval=`, `plain` by
default; any of its options may follow), with the sha256 of those on disk and "absent" for the others.
"""

from __future__ import annotations

import sys


def main(words: list[str]) -> int:
    """Print the table; returns the exit status."""
    from .options import command
    from .protocols import load_protocol, split_words

    def run(words: list[str]) -> int:
        options, rest = split_words(words, {"eval": "plain"})
        print(table(load_protocol(options["eval"], rest)), end="")
        return 0

    return command(words, __doc__, run)


def table(config: dict) -> str:
    """A row a metric; those of the protocol first."""
    from .metrics.registry import MEASURES, METRICS, title, version
    from .output.markup import align

    head = ["metric", "name", "version", "better", "unit", "needs", "weights", "preprocessing"]
    names = [*config["metrics"], *(name for name in METRICS if name not in config["metrics"])]
    body = []
    for metric in (METRICS[name] for name in names):
        measure = MEASURES[metric.measure]
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
    return align(head, body)


def weights_of(measure, config: dict) -> list[str]:
    """Networks and files of a measure with the head of their sha256, or "absent"."""
    from .metrics import weights
    from .metrics.networks import find
    from .scoring.collect import network_of, weight_names

    found = []
    kind = network_of(measure, config)
    looks = [(kind, lambda: find(kind, config).weights)] if kind else []
    looks += [
        (name, lambda name=name: weights.find(name, config["weights"])[1]) for name in weight_names(measure, config)
    ]
    for name, look in looks:
        try:
            found.append(f"{name} {look()[:12]}")
        except weights.MissingWeightsError:
            found.append(f"{name} absent")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
