"""Mean ranks with their intervals, the parts of variance of prompts and seeds, and the prompts a difference takes."""

import numpy as np
import pytest
from eval_rows import scored_row

from eval.metrics.inference import variance_parts
from eval.metrics.statistics import jackknife_error
from eval.records.files import write_arrays
from eval.report import power, ranks, seeds
from eval.report.compare import Comparison
from eval.report.tables import Marks, text_table

KEYS = [(f"{k:02d}", 0) for k in range(24)]


def values(rng, shift: float, noise: float = 1.0) -> dict:
    return dict(zip(KEYS, (shift + noise * rng.standard_normal(len(KEYS))).tolist(), strict=True))


@pytest.fixture
def rows(tmp_path):
    """Better by CLIP and NIQE from a to c; d equals c in every image."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((40, 6))
    write_arrays(tmp_path / "references" / "abc.npz", {"clip_features": reference})
    found = []
    for shift in (0.0, 3.0, 9.0):
        features = rng.standard_normal((24, 6)) * 0.5 + np.eye(6)[0] * shift
        measures = {"clip_score": values(rng, 50 - shift, 0.5), "niqe": values(rng, 5 + shift, 0.5)}
        found.append((measures, {"clip_features": features}))
    found.append(found[-1])
    return [scored_row(tmp_path, name, *item) for name, item in zip("abcd", found, strict=True)]


def test_a_clear_order_has_ranks_without_doubt_and_equals_share_theirs(rows, tmp_path):
    (found,) = ranks.rank(rows[::-1], Comparison(tmp_path))
    table = found.table.set_index(found.table.index.map(lambda k: found.rows[k].label))
    assert list(table.index[:2]) == ["a", "b"] and found.prompts == 24 and found.left_out == []
    assert found.metrics == ["clip_score", "cmmd", "niqe"]
    assert table["rank"].to_dict() == {"a": 1.0, "b": 2.0, "c": 3.5, "d": 3.5}
    assert table.loc["a", ["low", "high"]].tolist() == [1, 1] and table.loc["d", ["low", "high"]].tolist() == [3.5, 3.5]


def test_the_interval_of_a_rank_covers_the_truth_of_methods_that_are_alike(tmp_path):
    """Four methods of one distribution: the expected rank of each is 2.5, and 95 % is meant of their intervals."""
    rng = np.random.default_rng(1)
    hits = []
    for trial in range(12):
        folder = tmp_path / str(trial)
        rows = [scored_row(folder, name, {"clip_score": values(rng, 0), "niqe": values(rng, 0)}) for name in "abcd"]
        (found,) = ranks.rank(rows, Comparison(folder))
        hits += ((found.table["low"] <= 2.5) & (found.table["high"] >= 2.5)).tolist()
    assert np.mean(hits) > 0.85


def test_resamples_of_a_distance_spread_as_its_jackknife_says(rows, tmp_path):
    from eval.metrics.registry import metrics
    from eval.metrics.statistics import draws

    compare, fold = Comparison(tmp_path), np.arange(24)
    value, spread = ranks._values(rows[:2], metrics()["cmmd"], tuple(KEYS), fold, draws(24, 4000, 0), compare)
    for k, row in enumerate(rows[:2]):
        whole, left_out = compare.left_out(row, metrics()["cmmd"], tuple(KEYS))
        assert value[k] == whole and spread[:, k].mean() == pytest.approx(whole, abs=0.1 * jackknife_error(left_out))
        assert spread[:, k].std() == pytest.approx(jackknife_error(left_out), rel=0.1)


def test_a_method_with_other_prompts_is_left_out_and_named(rows, tmp_path):
    other = scored_row(tmp_path, "other", {"clip_score": {("zz", 0): 1.0}, "niqe": {("zz", 0): 1.0}})
    (found,) = ranks.rank([*rows, other], Comparison(tmp_path))
    assert found.left_out == ["other"] and "Without other, made with other prompts." in ranks.to_markdown([found])
    assert len(ranks.to_csv([found]).splitlines()) == 5


def test_few_prompts_have_ranks_without_intervals(tmp_path):
    few = {key: 1.0 for key in KEYS[:5]}
    rows = [
        scored_row(tmp_path, name, {"niqe": {k: v + shift for k, v in few.items()}}) for shift, name in enumerate("ab")
    ]
    (found,) = ranks.rank(rows, Comparison(tmp_path))
    assert found.table["low"].isna().all() and found.text() == {id(rows[0]): "1.0", id(rows[1]): "2.0"}
    assert ranks.rank(rows[:1], Comparison(tmp_path)) == []


def test_the_table_has_the_mean_rank(rows, tmp_path):
    for row in rows:
        row.block["cost"] = {}
        for name, cell in row.block["metrics"].items():
            cell["title"] = name
    (found,) = ranks.rank(rows, Comparison(tmp_path))
    table = text_table(rows, {}, Marks({}, found.text()))
    assert table["mean rank ↓"].tolist() == ["1.0 [1.0, 1.0]", "2.0 [2.0, 2.0]", *["3.5 [3.5, 3.5]"] * 2]
    assert "mean rank ↓" not in text_table(rows, {}, Marks({}))


@pytest.mark.parametrize("prompt, seed", [(3.0, 1.0), (0.0, 2.0), (2.0, 0.0)])
def test_parts_of_variance_are_those_of_the_draws(prompt, seed):
    rng = np.random.default_rng(5)
    found = []
    for _ in range(60):
        groups = np.repeat(np.arange(30), rng.integers(1, 5, 30))  # unequal numbers of seeds
        found.append(
            variance_parts(prompt * rng.standard_normal(30)[groups] + seed * rng.standard_normal(len(groups)), groups)
        )
    between, within = np.mean(found, 0)
    assert between == pytest.approx(prompt**2, abs=0.25 + 0.05 * prompt**2) and within == pytest.approx(
        seed**2, rel=0.1
    )


def test_parts_of_variance_need_several_seeds():
    assert variance_parts([1.0, 2.0, 3.0], list("abc")) is None and variance_parts([1.0, 2.0], list("aa")) is None
    assert variance_parts([1.0, 1.0, 4.0, 4.0], list("aabb")) == (4.5, 0.0)


def test_the_spread_over_seeds_is_that_of_the_means_of_one_seed(tmp_path):
    rng = np.random.default_rng(6)
    keys = [(f"{k:02d}", seed) for k in range(10) for seed in range(3)]
    of_prompt = rng.normal(50, 5, 10)
    scores = {key: float(of_prompt[int(key[0])] + rng.normal()) for key in keys} | {("00", 9): 50.0}
    row = scored_row(tmp_path, "a", {"clip_score": scores})
    (line,) = seeds.seeds([row]).itertuples()
    means = [np.mean([scores[key] for key in keys if key[1] == seed]) for seed in range(3)]
    assert (line.prompts, line.seeds) == (10, 3) and line.sd_mean == pytest.approx(np.std(means, ddof=1))
    assert (line.low, line.high) == pytest.approx((min(means), max(means))) and 0.01 < line.seed_share < 0.2
    text = seeds.to_markdown(seeds.seeds([row]), [row])
    assert "10 × 3" in text and f"{line.seed_share:.0%}, {line.sd_mean:.2f}" in text
    assert len(seeds.seeds([scored_row(tmp_path, "b", {"clip_score": values(rng, 0)})])) == 0


def test_prompts_for_a_difference_come_from_paired_differences(rows, tmp_path):
    table = power.power(rows, "c")
    clip = table[table["metric"] == "clip_score"]
    base, best = (np.array(list(rows[k].values("clip_score").values())) for k in (2, 0))
    other = np.array(list(rows[1].values("clip_score").values()))
    sd = np.median([np.std(best - base, ddof=1), np.std(other - base, ddof=1)])
    assert set(table["metric"]) == {"clip_score", "niqe"} and (clip["comparisons"] == 2).all()  # d equals c
    assert clip["sd"].iloc[0] == pytest.approx(sd) and clip["prompts"].iloc[0] == 24
    assert clip["difference"].iloc[0] == pytest.approx((best - base).mean() / 2) and clip["is_half"].tolist()[:2] == [
        True,
        False,
    ]
    assert clip["difference"].tolist()[1:] == [2.0, 1.0, 0.5]
    assert (clip["needed_holm"] >= clip["needed"]).all() and clip["needed"].is_monotonic_increasing
    assert "To tell 0.5 in CLIP apart from c at 64x64" in power.to_markdown(table, rows)
    assert len(power.power(rows, "none")) == 0


@pytest.mark.parametrize(
    "below, found", [(0.28, [0.2, 0.1, 0.05]), (1.0, [0.5, 0.2, 0.1]), (7, [5, 2, 1]), (20.5, [20, 10, 5])]
)
def test_round_numbers(below, found):
    assert power.round_numbers(below) == pytest.approx(found)
