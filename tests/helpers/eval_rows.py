"""Scored rows made by hand, from the values of their images."""

import json
from pathlib import Path

import numpy as np

from eval.records.files import write_arrays, write_text
from eval.records.rows import Row
from eval.records.runs import Key, Run

SETTINGS = {"bootstrap": {"samples": 400, "distance_samples": 50, "level": 0.95, "seed": 0}}


def scored_row(
    folder: Path,
    method: str,
    measures: dict[str, dict[Key, float]],
    arrays: dict[str, np.ndarray] | None = None,
    size: tuple[int, int] = (64, 64),
) -> Row:
    """A row with the values of each measure by (prompt id, seed), and arrays of the images in order of these keys.

    Each measure is the metric of the same name, with the mean as its value; arrays are `clip_features`, of CMMD.
    """
    place = folder / f"{method}-{size[0]}"
    keys = sorted(next(iter(measures.values())))
    lines = [
        {"protocol": "plain", "prompt_id": prompt, "seed": seed, "sha256": "x"}
        | {"values": {name: values[prompt, seed] for name, values in measures.items()}}
        for prompt, seed in keys
    ]
    write_text(place / "scores.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    names = {"prompt_id": np.array([prompt for prompt, _ in keys]), "seed": np.array([seed for _, seed in keys])}
    write_arrays(place / "features-plain.npz", names | (arrays or {}))
    about = {"low": 0.0, "high": 1.0, "n": len(keys), "digits": 2}
    cells = {name: {"value": float(np.mean(list(values.values())))} | about for name, values in measures.items()}
    cells |= {"cmmd": {"value": 1.0} | about} if arrays else {}
    block = {"settings": SETTINGS, "reference": {"identity": "abc"}, "n": len(keys), "damaged": [], "metrics": cells}
    return Row(Run(place, "flux", method, *size, method, {}, {}, []), "plain", block, method)
