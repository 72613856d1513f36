"""Step records of one image on disk: `<image>.steps.jsonl`, a row a transformer call, and `<image>.steps.npz` for maps.

Numbers and short lists stand in the row; arrays with two or more axes stand in the npz as `<name>/<row>`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sega.errors import RequestError
from sega.store import whole

KEYS = ("index", "stage", "branch", "sigma", "grid", "seconds")


def write_steps(image: Path, steps: list) -> None:
    """Write the Steps of an image beside it; the rows come last."""
    import numpy as np

    rows, maps = [], {}
    for number, step in enumerate(steps):
        row = {key: getattr(step, key) for key in KEYS}
        for key, value in step.details.items():
            if getattr(value, "ndim", 0) > 1:
                maps[f"{key}/{number}"] = np.asarray(value.cpu(), np.float32)
            else:
                row[key] = _plain(value)
        rows.append(row)
    if maps:
        with whole(maps_file(image)) as scratch, scratch.open("wb") as file:
            np.savez_compressed(file, **maps)
    with whole(rows_file(image)) as scratch:
        scratch.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_steps(image: Path, maps: bool = True) -> list[dict[str, Any]]:
    """Rows of an image, with their maps as arrays if wanted, [] where nothing was recorded; RequestError for damage."""
    import zipfile

    import numpy as np

    if not rows_file(image).exists():
        return []
    try:
        rows = [json.loads(line) for line in rows_file(image).read_text().splitlines()]
        if maps and maps_file(image).exists():
            with np.load(maps_file(image), allow_pickle=False) as arrays:
                for name in arrays.files:
                    key, _, number = name.rpartition("/")
                    rows[int(number)][key] = arrays[name]
    except (OSError, ValueError, EOFError, IndexError, zipfile.BadZipFile) as error:
        raise RequestError(f"the step records of {image} are damaged ({error}); make the image again") from error
    return rows


def is_recorded(image: Path, row: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether the step records that a config asks for were made with an image; `row` is its row of images.jsonl."""
    if not config["record"]:
        return True
    same_query = "attention" not in config["record"] or row.get("query") == config["query"]
    return set(config["record"]) <= set(row.get("record", ())) and same_query and rows_file(image).exists()


def rows_file(image: Path) -> Path:
    """Where the rows of an image stand."""
    return image.with_name(image.name.removesuffix(".png") + ".steps.jsonl")


def maps_file(image: Path) -> Path:
    """Where its maps stand."""
    return image.with_name(image.name.removesuffix(".png") + ".steps.npz")


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
