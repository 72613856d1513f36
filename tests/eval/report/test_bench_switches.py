"""The table and the verdicts of `scripts/bench_switches.py`, on numbers made up here."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "bench_switches.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_switches", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their types up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def measured(bench, switch, fid, accuracy=(0.0, -0.1, 0.1), images=8, psnr=(30.0, None, 40.0), share=0.45):
    values = {"attribute_accuracy": 0.9, "clip_score": 90.0, "fid": 4.0}
    differences = {"attribute_accuracy": accuracy, "clip_score": (0.0, -1.0, 1.0), "fid": fid}
    if not switch:
        differences = dict.fromkeys(differences)
    return bench.Measured("2x", "sega", switch, images, 14, share, list(psnr), values, differences)


def test_worse_is_above_0_for_distances_and_below_for_scores(bench):
    assert measured(bench, "steps=14", (1.0, -0.1, 2.0)).within
    assert not measured(bench, "steps=14", (1.0, 0.1, 2.0)).within
    assert measured(bench, "steps=14", (-1.0, -2.0, -0.1)).within  # better
    assert not measured(bench, "steps=14", (0.0, -1.0, 1.0), accuracy=(-0.2, -0.3, -0.1)).within
    few = measured(bench, "steps=14", (1.0, 0.1, 2.0), images=4)
    assert not few.within and not few.is_worse("fid")


def test_the_table_marks_what_is_worse_and_what_is_equal(bench):
    found = [
        measured(bench, "", None, share=1.0, psnr=()),
        measured(bench, "steps=14", (1.0, 0.1, 2.0)),
        measured(bench, "model.cache=sea:0.3", (0.5, -0.1, 1.0), psnr=(None, None), share=0.6),
    ]
    record = {"command": "x", "dtype": "bfloat16", "captions": 29, "packages": {"torch": "2", "diffusers": "1"}}
    bench.METHODS = ("sega",)
    lines = bench.table(found, record).splitlines()[-3:]
    assert lines[0] == "| exact | 1.00 |  | 0.900 | 90.00 | 4.00 |"
    assert lines[1].startswith("| `model.cache=sea:0.3` | 0.60 | equal (equal) |") and "**" not in lines[1]
    assert lines[2].startswith("| `steps=14` | 0.45 | 40.0 (30.0) |") and "**+1.00 [+0.10, +2.00]**" in lines[2]


def test_psnr_against_the_exact_image(bench, tmp_path):
    one = np.full((4, 4, 3), 100, np.uint8)
    for name, image in (("a", one), ("b", one + 10)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    assert bench._psnr(tmp_path / "a.png", tmp_path / "a.png") is None
    assert bench._psnr(tmp_path / "a.png", tmp_path / "b.png") == pytest.approx(20 * np.log10(25.5))
