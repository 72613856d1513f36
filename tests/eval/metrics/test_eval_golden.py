"""Scores of a few committed images. `python tests/eval/metrics/test_eval_golden.py` writes them anew."""

import csv
import json
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from eval.metrics.distances import fid, mmd
from eval.protocols import load_protocol
from eval.records import images
from eval.scoring.collect import Item, collect, resolve

FOLDER = Path(__file__).parent / "golden_scores"
PICTURES = ("render", "wide", "tiled", "windows")
TOLERANCES = {
    "clip_score": 0.02,
    "attributes": 1e-6,
    "piqe": 0.02,
    "repetition": 1e-6,
    "seam": 1e-4,
    "spectrum_low": 1e-4,
    "spectrum_high": 1e-4,
    "feature": 1e-3,
    "fid": 0.02,
    "kid": 1e-3,
    "cmmd": 1e-3,
}
"""Absolute; wider where float32 networks or kernels of another library are involved."""
MEASURES = ["features", "patches", "clip_score", "attributes", "piqe", "repetition", "seam", "spectrum"]


def compute() -> dict[tuple[str, str], float]:
    """Every golden value: (image or pair of sets, measure) -> value."""
    config = load_protocol("embedded", ["device=cpu", "patch.size=64", "repetition.period=128", "seam.period=48"])
    prompts = json.loads((FOLDER / "prompts.json").read_text())
    items = [Item(partial(images.read, FOLDER / f"{name}.png"), (name, 0), prompts[name]) for name in PICTURES]
    context = resolve(MEASURES, config, None).context()
    context.config = config
    values, damaged = collect(items, [MEASURES] * len(items), context)
    assert not damaged
    found = {}
    for name, value in zip(PICTURES, values, strict=True):
        for measure in ("clip_score", "piqe", "repetition", "seam"):
            if value[measure] is not None:
                found[name, measure] = value[measure]
        found[name, "attributes"] = value["attributes"]["mean"]
        found[name, "spectrum_low"], found[name, "spectrum_high"] = value["spectrum"][0], value["spectrum"][-1]
        found[name, "feature"] = value["features"][0]
    x, y = (np.concatenate([values[k]["patches"] for k in pair]) for pair in ((0, 1), (2, 3)))
    found["render+wide/tiled+windows", "fid"] = fid.fid(x, y)
    found["render+wide/tiled+windows", "kid"] = mmd.kid(x, y, 10, 6, 0)[0]
    found["render+wide/tiled+windows", "cmmd"] = mmd.mmd(x, y, mmd.gaussian)
    return {key: float(value) for key, value in found.items()}


def origin(measure: str) -> str:
    package = {
        "clip_score": "open_clip_torch",
        "feature": "open_clip_torch",
        "attributes": "open_clip_torch",
        "fid": "torchmetrics",
        "kid": "torchmetrics",
        "piqe": "pyiqa",
    }.get(measure)
    return f"{package} {version(package)}" if package else "this project"


def stored() -> dict[tuple[str, str], tuple[float, float]]:
    with (FOLDER / "scores.csv").open(newline="") as file:
        return {
            (row["picture"], row["measure"]): (float(row["value"]), float(row["tolerance"]))
            for row in csv.DictReader(file)
        }


@pytest.fixture(scope="module")
def scores():
    return compute()


def test_scores_of_the_committed_images_stay(scores):
    golden = stored()
    assert set(scores) == set(golden)
    off = {
        key: (scores[key], value) for key, (value, tolerance) in golden.items() if abs(scores[key] - value) > tolerance
    }
    assert off == {}


def test_they_say_what_the_images_are():
    golden = {key: value for key, (value, _) in stored().items()}
    assert golden["tiled", "repetition"] > 0.5
    assert golden["windows", "seam"] > 2 + golden["wide", "seam"]
    assert golden["windows", "spectrum_high"] > golden["wide", "spectrum_high"]
    assert golden["render", "clip_score"] > 10 + golden["tiled", "clip_score"]
    assert golden["render", "attributes"] == 1 > golden["tiled", "attributes"]


def write() -> None:
    import pyiqa

    theirs = pyiqa.create_metric("piqe", device="cpu")  # of which ours is a faster form
    values = compute() | {(name, "piqe"): float(theirs(str(FOLDER / f"{name}.png"))) for name in PICTURES}
    rows = [
        (name, measure, repr(round(value, 8)), TOLERANCES[measure], origin(measure))
        for (name, measure), value in sorted(values.items())
    ]
    with (FOLDER / "scores.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["picture", "measure", "value", "tolerance", "origin"])
        writer.writerows(rows)


if __name__ == "__main__":
    write()
