"""Locate the installation: a clone, with `conf`, `eval` and `baselines` beside `sega`, or the packages of a wheel.

In a wheel the three are parts of `sega_bench`: as top-level names they would hide folders of the same name, which many
projects have. `package` gives the name to import; nobody else needs to know.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

_BESIDE = Path(__file__).resolve().parents[1]

CLONE = _BESIDE if (_BESIDE / "conf" / "config.yaml").is_file() else None
"""The root of the clone; None in an installed wheel."""

CONF = (CLONE or _BESIDE / "sega_bench") / "conf"
"""The configuration: `config.yaml` and its groups."""

CACHE = (CLONE or Path()) / "results" / "cache"
"""What can be made again: hashes of weights, reference sets. In the working folder for an installed wheel."""


IN_CLONE = {
    "run": "python run.py",
    "eval": "python -m eval",
    "import": "python -m eval.import",
    "report": "python -m eval.report",
    "figures": "python -m eval.figures",
    "gallery": "python -m eval.gallery",
    "votes": "python -m eval.votes",
    "answer": "python -m eval.answer",
    "verdict": "python -m eval.verdict",
    "published": "python -m eval.published",
    "search": "python -m eval.search",
    "search-report": "python -m eval.search.report",
    "track": "python -m eval.track",
    "catalogue": "python -m eval.catalogue",
    "fetch": "python scripts/fetch.py",
    "store": "python -m sega.store",
}
"""How a command is typed in a clone that is not installed; in a wheel all are `sega-bench <name>`."""


def command_line(name: str) -> str:
    """A command as it is typed here, for messages."""
    return IN_CLONE[name] if CLONE else f"sega-bench {name}"


def as_typed(text: str) -> str:
    """A help text, which is written for a clone, with the commands of this installation."""
    for name in sorted(IN_CLONE, key=lambda name: -len(IN_CLONE[name])):  # `-m eval` is the start of `-m eval.report`
        text = text.replace(IN_CLONE[name], command_line(name))
    return text


@functools.cache
def package(name: str) -> str:
    """The import name of `eval` or `baselines`: as it is in a clone, in `sega_bench` where it is installed.

    A folder of that name which is not ours, such as one in the working folder, is never taken.
    """
    spec = find_spec(name) if CLONE else None
    ours = spec is not None and spec.origin is not None and Path(spec.origin).resolve().parent == _BESIDE / name
    return name if ours else f"sega_bench.{name}"
