"""FID and KID against formulas written out here, on the same features."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from eval.metrics.distances import fid, mmd, moments


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(8, 8))
    return rng.normal(size=(60, 8)) @ mix, rng.normal(0.4, 1.3, (90, 8)) @ mix


def fid_by_hand(x, y):
    s, r = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + r - 2 * np.real(sqrtm(s @ r)))


def mmd_by_hand(x, y):
    def k(a, b):
        return (a @ b / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_fid_equals_the_formula(sets):
    x, y = sets
    assert fid.fid(x, y) == pytest.approx(fid_by_hand(x, y), rel=1e-9)
    assert fid.Frechet(y)(x) == pytest.approx(fid_by_hand(x, y), rel=1e-9)


@pytest.mark.parametrize("n", [3, 20])
def test_quick_frechet_distance_for_few_images(n):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 12)), rng.normal(0.2, 1, (50, 12))
    assert fid.Frechet(y)(x) == pytest.approx(fid.fid(x, y), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(3, 10), (8, 12), (20, 7)])
def test_quick_frechet_distance_to_few_references(n, m):
    """No more references than dimensions: they take the place of the root of their covariance."""
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 12)), rng.normal(0.2, 1, (m, 12))
    frechet = fid.Frechet(y)
    assert frechet.root.shape == (12, m)
    assert frechet(x) == pytest.approx(fid.fid(x, y), rel=1e-6)
    many = np.concatenate([x + k for k in range(5)])
    assert frechet(many) == pytest.approx(fid.fid(many, y), rel=1e-6)


def test_fid_of_a_set_with_itself_is_zero(sets):
    assert fid.fid(sets[0], sets[0]) == pytest.approx(0, abs=1e-8)


def test_kid_of_one_whole_subset_equals_the_formula(sets):
    x, y = sets[0][:20], sets[1][:20]
    mean, deviation = mmd.kid(x, y, 3, 20, 0)
    assert mean == pytest.approx(mmd_by_hand(x, y), rel=1e-9)
    assert deviation == pytest.approx(0, abs=1e-9 * abs(mean))


def test_kid_draws_from_its_own_seed_and_leaves_the_global_state(sets):
    import torch

    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = mmd.kid(*sets, 10, 15, 0)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert mmd.kid(*sets, 10, 15, 0) == first
    assert mmd.kid(*sets, 10, 15, 1) != first


def test_jackknife_of_kid_equals_leaving_out_by_hand(sets):
    x, y = sets[0][:9], sets[1][:14]
    groups = list("aabbccdde")
    found = mmd.without_each(x, groups, y)
    for k, name in enumerate("abcde"):
        kept = np.array([group != name for group in groups])
        assert found[k] == pytest.approx(mmd_by_hand(x[kept], y), rel=1e-9)


def test_crops_of_an_image_leave_together(sets):
    x, y = sets[0][:12].reshape(4, 3, 8), sets[1][:14]
    found = mmd.without_each(x, list("abcd"), y)
    assert found[0] == pytest.approx(mmd_by_hand(x[1:].reshape(-1, 8), y), rel=1e-9)


def test_subset_size_adapts_to_the_smaller_set():
    assert mmd.subset_size("auto", 16, 256) == 8
    assert mmd.subset_size("auto", 5000, 9000) == 1000
    assert mmd.subset_size(50, 16, 256) == 16


@pytest.mark.parametrize("kind", ["fid", "kid"])
def test_intervals_are_about_the_spread_of_fresh_samples(kind):
    rng = np.random.default_rng(5)
    y = rng.normal(size=(400, 4))
    fresh, widths = [], []
    frechet, groups = fid.Frechet(y), list(range(60))
    for trial in range(60):
        x = rng.normal(0.5, 1, (60, 4))
        value = frechet(x) if kind == "fid" else mmd.without_each(x, groups, y).mean()
        fresh.append(value)
        if trial < 8:
            found = (fid if kind == "fid" else mmd).interval(value, x, groups, y)
            widths.append(found.high - found.low)
    assert 0.7 < np.mean(widths) / (2 * 1.96 * np.std(fresh)) < 1.4


def test_moments_do_not_depend_on_how_rows_come(sets, monkeypatch):
    x = sets[0].astype(np.float32).reshape(20, 3, 8)
    whole = moments.Moments.of(x)
    assert whole.count == 60
    assert whole.mean == pytest.approx(x.reshape(-1, 8).astype(float).mean(0), rel=1e-12)
    assert whole.covariance == pytest.approx(np.cov(x.reshape(-1, 8).astype(float), rowvar=False), rel=1e-9)
    for rows in (1, 7, 1000):
        monkeypatch.setattr(moments, "ROWS", rows)
        part = moments.Moments.of(x)
        assert part.outer == pytest.approx(whole.outer, rel=1e-13)
        assert fid.fid(part, sets[1]) == pytest.approx(fid.fid(x, sets[1]), rel=1e-9)


def test_kid_draws_what_torchmetrics_draws(sets):
    import torch
    from torchmetrics.image.kid import KernelInceptionDistance

    module = torch.nn.Identity()
    module.num_features = 8
    with pytest.warns(UserWarning, match="save all extracted features"):
        metric = KernelInceptionDistance(feature=module, subsets=10, subset_size=15)
    metric.update(torch.from_numpy(sets[1]), real=True)
    metric.update(torch.from_numpy(sets[0]), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        expected = [float(value) for value in metric.compute()]
    assert list(mmd.kid(*sets, 10, 15, 4)) == pytest.approx(expected, rel=1e-12)


def test_blocks_of_rows_change_no_kernel_sum(sets, monkeypatch):
    x, y, groups = sets[0].reshape(30, 2, 8), sets[1].reshape(45, 2, 8), [k // 3 for k in range(30)]
    before = mmd.mmd(x, y), mmd.without_each(x, groups, y)
    monkeypatch.setattr(moments, "ROWS", 8)
    assert mmd.mmd(x, y) == pytest.approx(before[0], rel=1e-9)
    assert mmd.without_each(x, groups, y) == pytest.approx(before[1], rel=1e-9)


def cmmd_by_hand(x, y):
    """1000 MMD^2 with exp(-|x - y|^2 / (2 10^2)) on unit vectors, pairs of a row with itself left out."""
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))

    def k(a, b):
        return np.exp(-((a - b) ** 2).sum() / 200)

    xx = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    yy = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    return 1000 * (xx + yy - 2 * np.mean([k(a, b) for a in x for b in y]))


def test_cmmd_equals_the_formula(sets):
    x, y = sets[0][:20], sets[1][:30] + 1
    assert mmd.mmd(x, y, mmd.gaussian) == pytest.approx(cmmd_by_hand(x, y), rel=1e-7)
    left = mmd.without_each(x, list("abcdefghijklmnopqrst"), y, mmd.gaussian)
    assert left[3] == pytest.approx(cmmd_by_hand(np.delete(x, 3, 0), y), rel=1e-7)


def test_cmmd_does_not_depend_on_the_number_of_images():
    """The mean over small sets is that of large ones, which the public code's estimate is not."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.4, 1, (600, 8)), rng.normal(0, 1, (400, 8))
    whole = mmd.mmd(x, y, mmd.gaussian)
    small = [mmd.mmd(x[k : k + 6], y, mmd.gaussian) for k in range(0, 600, 6)]
    assert np.mean(small) == pytest.approx(whole, abs=3 * np.std(small) / 10)
    assert abs(np.mean(small) - whole) < 0.1 * whole


def test_distances_of_features_on_disk(sets, tmp_path):
    stored = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (20, 3, 8))
    stored[:] = sets[0].reshape(20, 3, 8)
    again = np.lib.format.open_memmap(tmp_path / "x.npy", "r")
    x = sets[0].astype(np.float32).reshape(20, 3, 8)
    assert fid.fid(again, sets[1]) == fid.fid(x, sets[1])
    assert mmd.kid(again, sets[1], 5, 9, 0) == mmd.kid(x, sets[1], 5, 9, 0)


@pytest.mark.parametrize("count", [12, 3])
def test_leaving_out_of_many_rows_is_that_of_few(sets, count):
    """More rows than dimensions or fewer: the value without some images is that of the others."""
    x, fold = sets[0][: 2 * count].reshape(count, 2, 8), np.arange(count) % 3
    found = fid.Frechet(sets[1]).without_each(x, fold)
    assert len(found) == 3
    for k, value in enumerate(found):
        assert value == pytest.approx(fid.fid(x[fold != k], sets[1]), rel=1e-6)


def draw(rng, n: int, shift: float) -> np.ndarray:
    """Images of a world of 12 dimensions of falling variance."""
    scale = 0.7 ** np.arange(12)
    x = rng.standard_normal((n, 12)) * scale * (1 - 0.3 * shift)
    x[:, 0] += shift
    return x


@pytest.mark.parametrize("n", [6, 16, 48])
@pytest.mark.parametrize("shift", [0, 0.5])
def test_intervals_of_fid_are_above_zero_and_cover_its_mean_at_this_n(n, shift):
    """Of known Gaussians, at the small N of our reference: 95 % is meant, and at least 85 % is found."""
    rng = np.random.default_rng([n, int(10 * shift)])
    reference = draw(rng, 200, 0)
    frechet = fid.Frechet(reference)
    truth = np.mean([frechet(draw(rng, n, shift)) for _ in range(600)])
    found = []
    for _ in range(60):
        x = draw(rng, n, shift)
        found.append(fid.interval(frechet(x), x, list(range(n)), reference))
    assert all(0 < item.low < item.value < item.high for item in found)
    assert np.mean([item.low <= truth <= item.high for item in found]) >= 0.85


def test_an_interval_of_a_distance_of_zero_ends_there(sets):
    x = sets[0][:20]
    found = fid.interval(0.0, x, list(range(20)), x)
    assert found.low == 0 <= found.high


def test_many_prompts_are_left_out_in_sets(sets):
    x, groups = sets[0], [f"{k:02d}" for k in range(60)]
    value = fid.fid(x, sets[1])
    each, few = (fid.interval(value, x, groups, sets[1], most) for most in (60, 12))
    assert few.high / few.low == pytest.approx(each.high / each.low, rel=0.5)
