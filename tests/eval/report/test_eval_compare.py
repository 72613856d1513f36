"""Comparisons of two methods from records made by hand: distances with their own kernel, measures by their own name."""

import json

import numpy as np
import pytest

from eval.metrics import mmd
from eval.records.files import write_arrays, write_text
from eval.records.rows import Row
from eval.records.runs import Run
from eval.report import compare

SETTINGS = {"bootstrap": {"samples": 200, "distance_samples": 20, "level": 0.95, "seed": 0}}


def row(folder, method: str, shift: float) -> Row:
    """Twelve prompts with features around `shift`, and a measure that is worse by `shift`."""
    rng = np.random.default_rng(7)
    keys = [(f"{k:02d}", 0) for k in range(12)]
    features = rng.standard_normal((12, 8)) + shift
    place = folder / method
    arrays = {"prompt_id": np.array([k for k, _ in keys]), "seed": np.zeros(12, int), "clip_features": features}
    write_arrays(place / "features-plain.npz", arrays)
    lines = [
        {"protocol": "plain", "prompt_id": k, "seed": s, "sha256": "x", "values": {"high_frequency": shift + i / 50}}
        for i, (k, s) in enumerate(keys)
    ]
    write_text(place / "scores.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    cell = {"value": 1.0, "low": 0.9, "high": 1.1, "n": 12}
    block = {
        "settings": SETTINGS,
        "reference": {"identity": "abc"},
        "n": 12,
        "damaged": [],
        "metrics": {"cmmd": cell, "high_frequency": cell},
    }
    return Row(Run(place, "flux", method, 64, 64, method, {}, {}, []), "plain", block, method)


def test_cmmd_is_compared_with_its_own_kernel_and_marked(tmp_path):
    reference = np.random.default_rng(3).standard_normal((40, 8))
    write_arrays(tmp_path / "references" / "abc.npz", {"clip_features": reference})
    near, far = row(tmp_path, "near", 0.1), row(tmp_path, "far", 3.0)
    comparison = compare.Comparison(tmp_path)
    pair = comparison.pair(near, far, "cmmd")
    values = [mmd.mmd(r.arrays["clip_features"], reference, mmd.gaussian) for r in (near, far)]
    assert pair.difference.value == pytest.approx(values[0] - values[1])
    assert pair.difference.low < pair.difference.value < pair.difference.high < 0 and pair.verdict == "better"
    marks = compare.mark([near, far], comparison)
    assert marks.of(near, "cmmd") == "best" and marks.of(far, "cmmd") == ""


def test_a_measure_is_found_under_the_name_its_rows_have(tmp_path):
    a, b = row(tmp_path, "a", 2.0), row(tmp_path, "b", 0.5)
    pair = compare.Comparison(tmp_path).pair(a, b, "high_frequency")
    assert pair.difference.value == pytest.approx(1.5) and pair.difference.n == 12
    assert pair.verdict == "differs"
