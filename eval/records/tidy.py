"""Return scored runs as a pandas DataFrame with one row per run and metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .rows import Row, load_rows

if TYPE_CHECKING:
    import pandas

NUMBERS = ("value", "low", "high", "std")
COUNTS = ("width", "height", "images", "prompts", "n", "n_reference")


def frame(
    store: str | Path = "results/runs",
    cache: str | Path = "results/cache",
    model: str | None = None,
    method: str | None = None,
    protocol: str | None = None,
) -> pandas.DataFrame:
    """Return the scored runs of a store in the layout of `tidy`. Raises RequestError if nothing is scored.

    `model` and `method` select runs (commas between names), `protocol` selects one protocol. `cache` is the folder
    where `python -m eval` stores held-out renders.
    """
    rows, _ = load_rows(Path(store), Path(cache), model, method, protocol)
    return tidy(rows)


def tidy(rows: list[Row]) -> pandas.DataFrame:
    """Return one row per run and metric, in the order of the table. The index is the number of the run in it.

    Columns of the run: model, protocol, width, height, scale (over the training side), method (its label), run (its
    hash), renders (whether these are true renders), images, prompts, seconds, calls, peak_memory_mb. Columns of the
    value: metric, part (empty, or a part of the metric such as one attribute), value, low, high, n, n_reference, std,
    title, warning, reason (why there is no value).
    """
    import pandas

    names = dict.fromkeys(name for row in rows for name in row.block["metrics"])
    index: list[int] = []
    found: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        block = row.block
        about = {
            "model": row.run.model,
            "protocol": row.protocol,
            "width": row.run.width,
            "height": row.run.height,
            "scale": row.scale,
            "method": row.label,
            "run": row.run.hash,
            "renders": row.is_reference,
            "images": block["n"],
            "prompts": block["prompts"],
            **block["cost"],
        }
        for name in names:
            cell = row.cell(name)
            found.append(about | {"metric": name, "part": "", **cell})
            for part, interval in cell.get("parts", {}).items():
                found.append(about | {"metric": name, "part": part, "title": cell.get("title"), **interval})
        index += [place] * (len(found) - len(index))
    table = pandas.DataFrame(found, index=pandas.Index(index, name="row")).reindex(columns=COLUMNS)
    kinds = dict.fromkeys((*NUMBERS, *COSTS, "scale"), "float64") | dict.fromkeys(COUNTS, "Int64")
    return table.astype(kinds)


COSTS = ("seconds", "calls", "peak_memory_mb")
COLUMNS = [
    *("model", "protocol", "width", "height", "scale", "method", "run", "renders", "images", "prompts", *COSTS),
    *("metric", "part", "value", "low", "high", "n", "n_reference", "std", "title", "warning", "reason"),
]
