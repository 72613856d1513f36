"""Values of whole sets: Inception Score against two libraries; precision, recall, density, coverage by hand."""

from pathlib import Path

import numpy as np
import pytest

from eval.metrics.distances import prdc, sets
from eval.metrics.distances.inception_score import inception_score, resamples, split
from eval.metrics.registry import metrics
from eval.metrics.types import title
from eval.protocols import load_protocol
from eval.records.runs import RunImage
from eval.scoring.aggregate import Scored, metric_scores
from eval.scoring.collect import resolve
from eval.scoring.references import References

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "metrics.npz")


def logits(n, seed=0, classes=12):
    return np.random.default_rng(seed).normal(0, 2, (n, classes)).astype(np.float32)


@pytest.mark.parametrize("case", "abcd")
def test_inception_score_equals_both_libraries(case):
    x, splits = GOLDEN[f"is/{case}/logits"], int(GOLDEN[f"is/{case}/splits"])
    found = inception_score(x, splits)
    assert found == pytest.approx(tuple(GOLDEN[f"is/{case}/torch_fidelity_shuffled2020"]), rel=1e-10)
    found = inception_score(x, splits, order=np.arange(len(x)))
    assert found == pytest.approx(tuple(GOLDEN[f"is/{case}/torch_fidelity_in_order"]), rel=1e-10)
    found = inception_score(x, splits, "torchmetrics", order=GOLDEN[f"is/{case}/torchmetrics_order"])
    assert found == pytest.approx(tuple(GOLDEN[f"is/{case}/torchmetrics_mean_std"]), rel=1e-6, nan_ok=True)


def test_torchmetrics_draws_the_same_order_from_its_seed():
    import torch
    from torchmetrics.image.inception import InceptionScore

    x = logits(37)
    with pytest.warns(UserWarning, match="buffer"):
        metric = InceptionScore(feature=torch.nn.Identity(), splits=5)
    metric.update(torch.from_numpy(x))
    before = torch.random.get_rng_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        expected = [float(value) for value in metric.compute()]
    assert inception_score(x, 5, "torchmetrics", 8) == pytest.approx(tuple(expected), rel=1e-6)
    assert torch.equal(before, torch.random.get_rng_state())


def test_torch_fidelity_gives_the_same():
    import torch
    from torch_fidelity.metric_isc import isc_features_to_metric

    x = logits(45)
    expected = isc_features_to_metric(torch.from_numpy(x), 4, True, 11)
    found = inception_score(x, 4, seed=11)
    assert found[0] == pytest.approx(expected["inception_score_mean"], rel=1e-12)
    assert found[1] == pytest.approx(expected["inception_score_std"], rel=1e-9)


def test_inception_score_of_sure_and_of_equal_images():
    assert inception_score(30 * np.eye(6), 1)[0] == pytest.approx(6, rel=1e-6)
    assert inception_score(np.tile(logits(1), (8, 1)), 2)[0] == pytest.approx(1, abs=1e-12)


def test_a_resample_is_the_score_of_its_images(monkeypatch):
    x, groups = logits(18).reshape(9, 2, 12), list("aabbccdde")
    taken = np.array([[2, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    monkeypatch.setattr("eval.metrics.distances.inception_score.draws", lambda *_: taken)
    found = resamples(x, groups, [np.arange(18)], 2, 0)
    rows = [k for k, group in enumerate(groups) for _ in range(taken[0]["abcde".index(group)])]
    assert found[0] == pytest.approx(inception_score(x[rows], 1)[0], rel=1e-9)
    assert found[1] == pytest.approx(inception_score(x, 1)[0], rel=1e-9)
    parts = split(18, 3, "torch_fidelity", 5)
    assert resamples(x, groups, parts, 2, 0)[1] == pytest.approx(inception_score(x, 3, seed=5)[0], rel=1e-9)
    assert np.isfinite(resamples(x, groups, [np.arange(4), np.arange(4, 8), np.arange(8, 18)], 2, 0)).all()


def test_an_interval_holds_the_value_and_ends_where_the_quantity_does():
    found = sets.interval("is", 1.2, np.array([0.1, 1.5, 2.0, 3.0]), list("abcd"), 0.95)
    assert found.low == 1 and found.high > 1.2
    assert sets.interval("is", 1.2, np.ones(4), list("aabb"), 0.95).low is None


def scored(count, **arrays):
    images = [RunImage(Path(f"{k}.png"), f"{k:03d}", 0) for k in range(count)]
    return Scored(images, [{name: x[k] for name, x in arrays.items()} for k in range(count)], None)


def cells(config, found):
    return metric_scores(found, config, {}, "no references", 192)


def test_the_cell_says_splits_and_warns_of_few_images():
    words = ["metrics=[is,patch_is]", "is.splits=4", "bootstrap.distance_samples=30", "patch.count=2"]
    config = load_protocol("plain", words)
    found = cells(config, scored(12, logits=logits(12), patch_logits=logits(24, 1).reshape(12, 2, 12)))
    assert found["is"]["title"] == "IS (splits: 4)" and found["is"]["n"] == 12
    assert found["is"]["value"] == pytest.approx(inception_score(logits(12), 4)[0], rel=1e-9)
    assert found["is"]["low"] < found["is"]["value"] < found["is"]["high"] and found["is"]["std"] > 0
    assert found["is"]["warning"] == "N=12 is below 5,000 images: IS is biased downwards"
    assert found["patch_is"]["title"] == "patch-IS (2×192 px, splits: 4)" and found["patch_is"]["crops"] == 2
    assert "warning" not in cells(config, scored(5000, logits=logits(5000)))["is"]
    few = cells(config, scored(3, logits=logits(3)))["is"]
    assert few["reason"] == "3 images can't give IS of 4 splits; give is.splits=1"


def test_a_network_without_classes_has_no_inception_score():
    config = load_protocol("embedded", ["metrics=[is]"])
    assert "embedded" in resolve(["logits"], config, 192).reasons["logits"]
    assert title(metrics()["is"], load_protocol("lite0")) == "IS (EfficientNet-Lite0, splits: 1)"


def by_hand(x, y, k):
    """Precision, recall, density and coverage with loops over every pair of rows."""

    def apart(a, b):
        return float(np.sqrt(((a - b) ** 2).sum()))

    def radius(i, rows):
        return sorted(apart(rows[i], other) for j, other in enumerate(rows) if j != i)[k - 1]

    balls_y, balls_x = [radius(j, y) for j in range(len(y))], [radius(i, x) for i in range(len(x))]
    inside = [[apart(a, b) < r for b, r in zip(y, balls_y, strict=True)] for a in x]
    return {
        "precision": sum(map(any, inside)) / len(x),
        "recall": sum(any(apart(b, a) < r for a, r in zip(x, balls_x, strict=True)) for b in y) / len(y),
        "density": sum(map(sum, inside)) / (k * len(x)),
        "coverage": sum(map(any, zip(*inside, strict=True))) / len(y),
    }


@pytest.fixture
def clouds():
    rng = np.random.default_rng(3)
    return rng.normal(0.6, 1, (40, 4)).astype(np.float32), rng.normal(0, 1.2, (55, 4)).astype(np.float32)


@pytest.mark.parametrize(("k", "rows"), [(1, 1024), (5, 7), (3, 40)])
def test_precision_recall_density_coverage_equal_the_loops(clouds, k, rows, monkeypatch):
    monkeypatch.setattr(prdc, "ROWS", rows)
    expected = by_hand(*(part.astype(np.float64) for part in clouds), k)
    assert 0 < expected["recall"] < 1 and 0 < expected["coverage"] < 1 and len(set(expected.values())) == 4
    for kind in prdc.KINDS:
        assert prdc.value(kind, prdc.held(kind, *clouds, k), k)[0] == pytest.approx(expected[kind], abs=1e-12), kind


def test_sets_in_the_same_place_and_far_apart(clouds):
    for kind in prdc.KINDS:
        far = prdc.held(kind, clouds[0] + 100, clouds[1], 5)
        assert prdc.value(kind, far, 5)[0] == 0
        assert prdc.value(kind, prdc.held(kind, clouds[1], clouds[1], 5), 5)[0] == pytest.approx(1), kind


@pytest.mark.parametrize("kind", prdc.KINDS)
def test_weights_take_images_and_leave_them_out(clouds, kind):
    inside = prdc.held(kind, *clouds, 5)
    weights = np.zeros((2, 40))
    weights[0, :10], weights[1] = 2, 1
    part, whole = prdc.value(kind, inside, 5, weights)
    assert part == pytest.approx(prdc.value(kind, inside[:, :10], 5)[0])
    assert whole == pytest.approx(prdc.value(kind, inside, 5)[0])


def test_cells_of_neighbours_have_their_number_and_an_interval(clouds):
    words = ["metrics=[precision,recall,density,coverage]", "bootstrap.distance_samples=40"]
    config = load_protocol("plain", words)
    found = scored(40, features=clouds[0])
    found.reference = References({"features": clouds[1]}, ("",) * 55)
    expected = by_hand(*(part.astype(np.float64) for part in clouds), 5)
    for name, cell in metric_scores(found, config, {}, "", None).items():
        assert cell["title"] == f"{name} (k=5)" and cell["value"] == pytest.approx(expected[name]), name
        assert cell["low"] <= cell["value"] <= cell["high"] and cell["low"] < cell["high"] and cell["n_reference"] == 55
        assert "warning" not in cell and 0 <= cell["low"] and (cell["high"] <= 1 or name == "density")
    few = scored(5, features=clouds[0][:5])
    few.reference = found.reference
    assert metric_scores(few, config, {}, "", None)["recall"]["reason"] == "5 images can't give recall"
    assert title(metrics()["recall"], load_protocol("lite0")) == "recall (EfficientNet-Lite0, k=5)"


def test_precision_and_recall_equal_torch_fidelity(clouds):
    import torch
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    expected = calculate_precision_recall_full(*(torch.from_numpy(part).double() for part in clouds), 3)
    found = [prdc.value(kind, prdc.held(kind, *clouds, 3), 3)[0] for kind in ("precision", "recall")]
    assert found == pytest.approx(expected, abs=1e-6)
