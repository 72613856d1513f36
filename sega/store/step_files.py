"""Step records of one image on disk: `<image>.steps.jsonl`, a row a transformer call, and `<image>.steps.npz` for maps.

Numbers and short lists stand in the row; arrays with two or more axes stand in the npz as `<name>/<row>`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, cast

from sega.errors import RequestError
from sega.store.files import atomic, file_sha
from sega.store.rows import read_rows
from sega.store.schema import ImageRow, StepRow

KEYS = ("index", "stage", "branch", "sigma", "grid", "seconds")


class RecordedStep(Protocol):
    """The attributes of a step that the store uses besides KEYS; `sega.methods.types.Step` has them."""

    details: dict[str, Any]


def write_steps(image: Path, steps: list[RecordedStep]) -> dict[str, str]:
    """Write the Steps of an image beside it; the rows come last. Returns the sha256 of each file by its name."""
    import numpy as np

    rows: list[dict[str, Any]] = []
    maps: dict[str, Any] = {}
    for number, step in enumerate(steps):
        row = {key: getattr(step, key) for key in KEYS}
        for key, value in step.details.items():
            if getattr(value, "ndim", 0) > 1:
                maps[f"{key}/{number}"] = np.asarray(value.cpu(), np.float32)
            else:
                row[key] = _plain(value)
        rows.append(row)
    if maps:
        with atomic(maps_file(image)) as scratch, scratch.open("wb") as file:
            np.savez_compressed(file, **maps)
    with atomic(rows_file(image)) as scratch:
        scratch.write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = [rows_file(image), *([maps_file(image)] if maps else [])]
    return {path.name: file_sha(path) for path in written}


def read_steps(image: Path, maps: bool = True) -> list[StepRow]:
    """Rows of an image, with their maps as arrays if wanted, [] where nothing was recorded; RequestError for damage."""
    import zipfile
    import zlib

    import numpy as np

    if not rows_file(image).exists():
        return []
    try:
        rows, damaged = read_rows(rows_file(image), KEYS)
        if damaged or rows_file(image).is_dir():
            raise ValueError(f"line {damaged[0]} is no row" if damaged else "a folder in place of the rows")
        if maps and maps_file(image).exists():
            with np.load(maps_file(image), allow_pickle=False) as arrays:
                for name in arrays.files:
                    key, _, number = name.rpartition("/")
                    rows[int(number)][key] = arrays[name]
    except (OSError, ValueError, EOFError, IndexError, zipfile.BadZipFile, zlib.error) as error:
        raise RequestError(f"the step records of {image} are damaged ({error}); make the image again") from error
    return cast(list[StepRow], rows)


def is_recorded(image: Path, row: ImageRow, config: dict[str, Any]) -> bool:
    """Whether the step records that a config asks for were made with an image and are whole.

    `row` is its row of images.jsonl.
    """
    if not config["record"]:
        return True
    same_query = "attention" not in config["record"] or row.get("query") == config["query"]
    if not set(config["record"]) <= set(row.get("record", ())) or not same_query:
        return False
    files = row.get("steps")
    if not isinstance(files, dict):  # of a version that did not note them
        return rows_file(image).exists()
    paths = {image.with_name(name): sha for name, sha in files.items()}
    return all(path.is_file() and file_sha(path) == sha for path, sha in paths.items())


def rows_file(image: Path) -> Path:
    """Return the file of the rows of an image."""
    return image.with_name(image.name.removesuffix(".png") + ".steps.jsonl")


def maps_file(image: Path) -> Path:
    """Return the file of its maps."""
    return image.with_name(image.name.removesuffix(".png") + ".steps.npz")


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
