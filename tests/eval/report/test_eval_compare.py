"""Comparisons of two methods from records made by hand: distances with their own kernel, measures by their own name."""

import json

import numpy as np
import pytest

from eval.metrics.distances import mmd
from eval.metrics.statistics import Estimate
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
        {
            "protocol": "plain",
            "prompt_id": k,
            "seed": s,
            "sha256": "x",
            "values": dict.fromkeys(("high_frequency", "niqe"), shift + i / 50),
        }
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
    pair = compare.judged([comparison.pair(near, far, "cmmd")])[0]
    values = [mmd.mmd(r.arrays["clip_features"], reference, mmd.gaussian) for r in (near, far)]
    assert pair.difference.value == pytest.approx(values[0] - values[1])
    assert pair.difference.low < pair.difference.value < pair.difference.high < 0 and pair.verdict == "better"
    marks = compare.mark([near, far], comparison)
    assert marks.of(near, "cmmd") == "best" and marks.of(far, "cmmd") == ""


def test_a_measure_is_found_under_the_name_its_rows_have(tmp_path):
    a, b = row(tmp_path, "a", 2.0), row(tmp_path, "b", 0.5)
    pair = compare.judged([compare.Comparison(tmp_path).pair(a, b, "high_frequency")])[0]
    assert pair.difference.value == pytest.approx(1.5) and pair.difference.n == 12
    assert pair.verdict == "differs"


@pytest.mark.parametrize("n, verdict", [(5, ""), (6, "better"), (12, "better")])
def test_few_pairs_have_no_verdict(tmp_path, n, verdict):
    """Two sides of a sign test with all of n pairs agreeing: 0.0625 for 5, 0.03125 for 6."""
    a, b = row(tmp_path, "a", 2.0), row(tmp_path, "b", 0.5)
    pair = compare.Pair(a, b, "clip_score", Estimate(3.0, 1.0, 5.0, n), p=1e-6, prompts=n)
    assert compare.judged([pair])[0].verdict == verdict and (2 * 0.5**n < 0.05) == bool(verdict)
    assert pair.verdict == ""  # before its family is known


def test_best_and_second_are_better_than_every_worse_one(tmp_path):
    """Twelve prompts are enough against 3 others; 0.01 on every prompt is a difference, and none is none."""
    rows = [row(tmp_path, name, shift) for name, shift in (("a", 0.5), ("b", 0.6), ("c", 0.61), ("d", 0.61))]
    for item, value in zip(rows, (0.5, 0.6, 0.61, 0.61), strict=True):
        item.block["metrics"] = {"niqe": {"value": value, "low": 0.0, "high": 1.0, "n": 12}}
    marks = compare.mark(rows[::-1], compare.Comparison(tmp_path))
    assert [marks.of(item, "niqe") for item in rows] == ["best", "second", "", ""]
    marks = compare.mark(rows[1:], compare.Comparison(tmp_path))
    assert [marks.of(item, "niqe") for item in rows] == ["", "best", "", ""]


def test_verdicts_are_of_the_family(tmp_path):
    """Five comparisons of one column: 0.014 would do alone, and does not in five. Another column is another family."""
    rows = [row(tmp_path, name, 0.5) for name in "abcdefg"]
    some = Estimate(3.0, 1.0, 5.0, 20)
    values = [0.02, 0.014, 0.6, 0.009, 0.8]
    pairs = [compare.Pair(r, rows[-1], "clip_score", some, p=p, prompts=20) for r, p in zip(rows, values, strict=False)]
    pairs.append(compare.Pair(rows[0], rows[-1], "niqe", some, p=0.014, prompts=20))
    pairs.append(compare.Pair(rows[5], rows[-1], "clip_score", Estimate(0.0, 0.0, 0.0, 20), p=1.0, prompts=20))
    found = compare.judged(pairs)
    assert [pair.verdict for pair in found] == ["", "", "", "better", "", "worse", ""]
    assert found[3].corrected == pytest.approx(0.045) and found[1].corrected == pytest.approx(0.056)
    assert found[0].family == 5 and found[0].least == 8 and found[5].least == 6 and found[6].family == 0


def test_too_few_pairs_are_said_once(tmp_path):
    rows = [row(tmp_path, name, shift) for name, shift in (("vanilla", 0.5), *((f"m{k}", 1.0 + k) for k in range(200)))]
    for item in rows:
        del item.block["metrics"]["cmmd"]
    pairs = compare.against_base(rows, "vanilla", compare.Comparison(tmp_path))
    text = compare.to_markdown(pairs)
    assert text.count("N too small for a verdict (12 prompts): at least 13 needed with 200 comparisons.") == 1
    assert not {"differs", "better", "worse"} & {word for pair in pairs for word in pair.verdict.split()}
    head, first = compare.to_csv(pairs).splitlines()[:2]
    cells = dict(zip(head.split(","), first.split(","), strict=True))
    assert float(cells["p"]) == 2 / 2**12 and float(cells["p_holm"]) == pytest.approx(200 * 2 / 2**12)


def test_what_is_equal_is_said_once(tmp_path):
    """Three methods that equal the first are one sentence, the one that differs is a row."""
    rows = [row(tmp_path, name, shift) for name, shift in (("vanilla", 0.5), ("pi", 0.5), ("ntk", 0.5), ("far", 2.0))]
    for item in rows:
        del item.block["metrics"]["cmmd"]
    text = compare.to_markdown(compare.against_base(rows, "vanilla", compare.Comparison(tmp_path)))
    assert "Equal to vanilla in every value: pi, ntk." in text
    assert text.count("| vanilla") == 1 and "| far" in text and "| pi" not in text
