"""Scored runs as pandas DataFrames: a row per run and metric, per cell, or per image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .rows import Row, load_rows
from .runs import warn

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
    from ..votes.summary import add_column  # votes stand above records

    rows, _ = load_rows(Path(store), Path(cache), model, method, protocol)
    add_column(rows, Path(store), warn)
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
        about = _about(row) | row.block["cost"]
        for name in names:
            cell = row.cell(name)
            found.append(about | {"metric": name, "part": "", **cell})
            for part, interval in cell.get("parts", {}).items():
                found.append(about | {"metric": name, "part": part, "title": cell.get("title"), **interval})
        index += [place] * (len(found) - len(index))
    table = pandas.DataFrame(found, index=pandas.Index(index, name="row")).reindex(columns=COLUMNS)
    kinds = dict.fromkeys((*NUMBERS, *COSTS, "scale"), "float64") | dict.fromkeys(COUNTS, "Int64")
    return table.astype(kinds)


def by_image(rows: list[Row], measure: str) -> pandas.DataFrame:
    """Return the values of one measure: a row per image, by prompt_id and seed, and a column per run, by its number.

    Images are sorted, and a run that has not made one has no value for it.
    """
    import pandas

    names = pandas.MultiIndex.from_tuples([], names=["prompt_id", "seed"])
    found = {k: row.values(measure) for k, row in enumerate(rows)}
    series = {
        k: pandas.Series(values, dtype=float) if values else pandas.Series(index=names, dtype=float)
        for k, values in found.items()
    }
    return pandas.DataFrame(series).rename_axis(names.names).sort_index()


def cells(rows: list[Row]) -> pandas.DataFrame:
    """Return one row per run and protocol, in the order of the table.

    The columns of the run are those of `tidy`, with `settings`, the parameters of the method as JSON. Each metric has
    its value under its name, and `<metric>_low`, `<metric>_high` and `<metric>_n`; parts are `<metric>.<part>`.
    """
    import pandas

    found = []
    for row in rows:
        about = _about(row) | row.block["cost"]
        about["settings"] = json.dumps(row.run.identity.get("method", {}), sort_keys=True)
        for name in row.block["metrics"]:
            cell = row.cell(name)
            values = {name: cell} | {f"{name}.{part}": item for part, item in cell.get("parts", {}).items()}
            for key, item in values.items():
                about |= {key: item.get("value"), f"{key}_low": item.get("low"), f"{key}_high": item.get("high")}
            about[f"{name}_n"] = cell.get("n")
        found.append(about)
    return pandas.DataFrame(found).astype({key: "Int64" for key in ("width", "height", "images", "prompts")})


def images(rows: list[Row]) -> pandas.DataFrame:
    """Return one row per image and protocol: its run, what it is, what it cost, and each measure of it.

    Columns: model, protocol, width, height, scale, method (its label), run (its hash), renders, prompt_id, seed,
    prompt, file (its path), sha256, seconds, calls, peak_memory_mb; then the measures, parts as `<measure>.<part>`.
    """
    import pandas

    found = []
    for row in rows:
        about = {key: value for key, value in _about(row).items() if key not in ("images", "prompts")}
        scores = {(item["prompt_id"], item["seed"]): item["values"] for item in row.scored}
        for key, image in row.images.items():
            line = about | {"prompt_id": image.prompt_id, "seed": image.seed, "prompt": image.prompt}
            line |= {"file": str(image.path), "sha256": image.sha, **dict.fromkeys(COSTS), **image.cost}
            for name, value in scores.get(key, {}).items():
                parts = value if isinstance(value, dict) else {"mean": value}
                line |= {name if part == "mean" else f"{name}.{part}": number for part, number in parts.items()}
            found.append(line)
    return pandas.DataFrame(found).astype({key: "Int64" for key in ("width", "height")})


def _about(row: Row) -> dict[str, Any]:
    """The columns of a run."""
    return {
        "model": row.run.model,
        "protocol": row.protocol,
        "width": row.run.width,
        "height": row.run.height,
        "scale": row.scale,
        "method": row.label,
        "run": row.run.hash,
        "renders": row.is_reference,
        "images": row.block["n"],
        "prompts": row.block["prompts"],
    }


COSTS = ("seconds", "calls", "peak_memory_mb")
COLUMNS = [
    *("model", "protocol", "width", "height", "scale", "method", "run", "renders", "images", "prompts", *COSTS),
    *("metric", "part", "value", "low", "high", "n", "n_reference", "std", "title", "warning", "reason"),
]
