"""From files of votes to numbers and to a column of the table; the numbers against independent computations."""

import csv
import io
import json
import shutil
from itertools import permutations

import numpy as np
import pytest
from eval_store import make_run
from PIL import Image
from scipy.optimize import minimize
from scipy.stats import binomtest

from eval.options import scored
from eval.records import frame
from eval.report.command import main as report
from eval.scoring.command import main as evaluate
from eval.votes.command import main
from eval.votes.model import bradley_terry, errors, krippendorff, scale, win_rate
from eval.votes.read import read
from eval.votes.summary import results

METHODS = ("vanilla", "yarn", "sega")


def random_wins(seed, m=4, prompts=12):
    rng = np.random.default_rng(seed)
    wins = rng.integers(0, 5, (prompts, m, m)) / 2
    return wins * (1 - np.eye(m))


def loss(theta, wins, prior):
    """The negative penalised log likelihood, written out."""
    total = 0.0
    for i, j in permutations(range(len(theta)), 2):
        total += wins[i, j] * np.log1p(np.exp(theta[j] - theta[i]))
    return total + prior * (np.log1p(np.exp(theta)) + np.log1p(np.exp(-theta))).sum()


@pytest.mark.parametrize("prior", [0.0, 0.5, 3.0])
def test_scores_are_the_most_likely_ones(prior):
    wins = random_wins(1).sum(0)
    best = minimize(loss, np.zeros(4), (wins, prior), tol=1e-12).x
    assert bradley_terry(wins, prior) == pytest.approx(best - best.mean(), abs=1e-5)


def test_two_methods_have_the_log_odds_of_their_wins():
    assert np.diff(bradley_terry(np.array([[0.0, 3.0], [9.0, 0.0]]), 0)) == pytest.approx(np.log(3))


def test_a_method_that_never_lost_has_a_finite_score_and_a_wide_interval():
    wins = np.zeros((8, 2, 2))
    wins[:, 0, 1] = 1
    found = scale(wins)
    assert 0 < found.value[0] < 5 and found.low[0] < found.value[0] - 0.5 < found.value[0] + 0.5 < found.high[0]


def test_errors_come_from_the_curvature():
    wins, step = random_wins(2).sum(0), 1e-4
    score = bradley_terry(wins)
    shift = minimize(lambda c: loss(score + c[0], wins, 0.5), [0.0], tol=1e-12).x[0]  # of the mean, which is free
    assert abs(shift) < 0.2
    curvature = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                moved = score.copy()
                moved[i] += a * step
                moved[j] += b * step
                curvature[i, j] += a * b * loss(moved, wins, 0.5) / (4 * step**2)
    centre = np.eye(4) - 0.25
    assert errors(wins, score) == pytest.approx(np.sqrt(np.diag(centre @ np.linalg.inv(curvature) @ centre)), rel=1e-3)


def test_intervals_are_bootstrap_over_prompts():
    wins = np.repeat(random_wins(3, prompts=6), 1, 0) * 50  # many votes of few prompts: the prompts decide the width
    found = scale(wins, samples=400)
    rng = np.random.default_rng(0)
    spread = bradley_terry(np.stack([wins[rng.integers(0, 6, 6)].sum(0) for _ in range(400)]))  # all at once
    low, high = np.quantile(spread, [0.025, 0.975], axis=0)
    assert found.low == pytest.approx(low, abs=0.15) and found.high == pytest.approx(high, abs=0.15)
    assert scale(wins[:1]).low is None


@pytest.mark.parametrize(("won", "n"), [(0, 5), (3, 7), (20, 20)])
def test_win_rates_have_wilson_intervals(won, n):
    value, low, high = win_rate([1.0] * won + [0.0] * (n - won))
    oracle = binomtest(won, n).proportion_ci(method="wilson")
    assert (value, low, high) == pytest.approx((won / n, oracle.low, oracle.high))
    assert low < high


def test_alpha_of_a_known_example():
    """Three observers and 15 units of Krippendorff's introduction: 0.811 on an interval scale."""
    table = """
        * * * * * 3 4 1 2 1 1 3 3 * 3
        1 * 2 1 3 3 4 3 * * * * * * *
        * * 2 1 3 4 4 * 2 1 1 3 3 * 4
    """
    observers = [line.split() for line in table.split("\n") if line.strip()]
    units = [[float(value) for value in unit if value != "*"] for unit in zip(*observers, strict=True)]
    assert krippendorff(units) == pytest.approx(0.811, abs=5e-4)


def test_alpha_from_the_matrix_of_coincidences():
    rng = np.random.default_rng(5)
    units = [rng.choice([0.0, 0.5, 1.0], rng.integers(1, 5)).tolist() for _ in range(30)]
    values = [0.0, 0.5, 1.0]
    together = np.zeros((3, 3))
    for unit in units:
        for k, j in permutations(range(len(unit)), 2):
            together[values.index(unit[k]), values.index(unit[j])] += 1 / (len(unit) - 1)
    n, apart = together.sum(0), np.subtract.outer(values, values) ** 2
    expected = 1 - (n.sum() - 1) * (together * apart).sum() / (np.outer(n, n) * apart).sum()
    assert krippendorff(units) == pytest.approx(expected)
    assert krippendorff([[1.0]]) is None and krippendorff([[1.0, 1.0]]) is None
    assert krippendorff([[1.0, 1.0], [0.0, 0.0]]) == 1


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A scored store of three methods at two sizes."""
    folder = tmp_path_factory.mktemp("votes")
    for k, method in enumerate(METHODS):
        for side in (32, 64):
            make_run(folder / "runs", method, (side, side), noise=10.0 * k)
    places = [f"store={folder / 'runs'}", f"cache={folder / 'cache'}"]
    assert evaluate([*places, "metrics=[flat_speckle]", "bootstrap.samples=50", "workers=0"]) == 0
    return folder


def words(place, *more):
    return [f"store={place / 'runs'}", f"cache={place / 'cache'}", *more]


def rows_of(place):
    return scored({"store": place / "runs", "cache": place / "cache", "model": None, "method": None, "eval": None})


def write(path, rows):
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        table.writeheader()
        table.writerows(rows)
    return path


def vote(k, a, b, winner, rater="ann", **more):
    return {"prompt_id": f"{k:04d}", "seed": 0, "method_a": a, "method_b": b, "winner": winner, "rater": rater, **more}


def test_a_plain_csv_of_votes(place, tmp_path):
    rows = [
        vote(0, "sega", "vanilla", "a", size="64x64"),
        vote(1, "vanilla", "sega", "sega", size="64x64"),
        vote(2, "sega", "vanilla", "Tie", size="64x64"),
        vote(3, "yarn", "sega", "method_b", size="64x64"),
        vote(0, "vanilla", "sega", "b", "bob", size="64x64"),
        vote(1, "sega", "yarn", "b", size="32x32", model="tiny"),
    ]
    table = rows_of(place)
    small, large = results(read([write(tmp_path / "v.csv", rows)], table).votes, table)
    assert small.group == ("tiny", "32x32") and [item.row.label for item in small.standings] == ["yarn", "sega"]
    assert [item.row.label for item in large.standings][0] == "sega" and large.raters == {"ann": 4, "bob": 1}
    duel = next(item for item in large.duels if {item.row.label, item.other.label} == {"sega", "vanilla"})
    share = duel.wins[0] if duel.row.label == "sega" else 1 - duel.wins[0]
    assert share == pytest.approx((1 + 1 + 0.5) / 3) and (duel.votes, duel.prompts) == (4, 3)
    assert large.shared == 1 and large.alpha == 1 and large.connected


def test_the_order_of_a_pair_changes_nothing_and_a_rater_votes_once(place, tmp_path):
    table = rows_of(place)
    group = {"size": "64x64"}
    one = [vote(0, "sega", "yarn", "a", **group), vote(1, "sega", "yarn", "b", **group)]
    two = [vote(0, "yarn", "sega", "b", **group), vote(1, "yarn", "sega", "a", **group)]
    first = results(read([write(tmp_path / "one.csv", one)], table).votes, table)
    assert first == results(read([write(tmp_path / "two.csv", two)], table).votes, table)
    again = [
        vote(0, "sega", "yarn", "b", time="2026-01-02", **group),
        vote(0, "sega", "yarn", "a", time="2026-01-01", **group),
    ]
    found = read([write(tmp_path / "again.csv", again)], table)
    assert len(found.votes) == found.again == 1
    by_run = {row.run.hash: row.label for row in table}
    assert found.votes[0].score == (0.0 if by_run[found.votes[0].a] == "sega" else 1.0)  # the later one: yarn
    both = read([write(tmp_path / "both.csv", [one[0], vote(0, "yarn", "sega", "a", **group)])], table)
    assert [item.score for item in both.votes] == [0.5] and both.again == 0  # always the first place


def test_what_can_not_be_used_is_named(place, tmp_path):
    table = rows_of(place)
    rows = [
        vote(0, "sega", "yarn", "a"),  # at two sizes
        vote(0, "sega", "yern", "a", size="64x64"),
        vote(99, "sega", "yarn", "a", size="64x64"),
        vote(0, "sega", "sega", "a", size="64x64"),
        vote(0, "sega", "yarn", "left", size="64x64"),
        vote(0, "sega", "yarn", "", size="64x64"),
        vote(0, "sega", "yarn", "a", size="64x64") | {"seed": "x"},
    ]
    found = read([write(tmp_path / "v.csv", rows)], table)
    assert found.votes == [] and found.open == 1 and len(found.problems) == 6
    for line, word in zip(
        found.problems,
        ["several models or sizes", "not two", "not two", "not two", "none of a, b", "whole"],
        strict=True,
    ):
        assert word in line and line.startswith("v.csv vote "), line
    for name, content in (
        ("a.json", b"[" * 100_000),
        ("b.json", b'{"votes": 3}'),
        ("c.csv", b"\xff\xfe"),
        ("d.json", b'[3, null, {"winner": {"a": 1}}]'),
        ("e.jsonl", b'{"winner": "a", "prompt_id": ["x"], "method_a": {}}\n{half'),
        ("f.csv", b'prompt_id,winner\n"open'),
        ("g.csv", "prompt_id,winner,method_a\n<script>\x00,a,\u2028\n".encode()),
    ):
        (tmp_path / name).write_bytes(content)
        found = read([tmp_path / name], table)
        assert found.votes == [] and len(found.problems) + found.open >= 1, name
        assert all(len(line) < 1000 for line in found.problems)


def test_the_command_and_the_column_of_the_table(place, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(place, folder)
    assert main(words(folder, f"out={tmp_path / 'out'}")) == 2
    assert "no votes in" in capsys.readouterr().err
    page = {
        "schema": 1,
        "rater": "eve",
        "votes": [
            {**vote(k, "vanilla", "sega", "b" if k else "tie"), "size": "64x64", "model": "tiny"} for k in range(6)
        ],
    }
    for item in page["votes"]:
        del item["rater"]
    (tmp_path / "votes-eve.json").write_text(json.dumps(page))
    given = f"votes={tmp_path / 'votes-eve.json'}"
    out = [f"out={folder / 'report'}", "parts=tables,figures"]
    assert report(words(folder, *out)) == 0
    assert "preference" not in (folder / "report" / "table.csv").read_text()
    assert main(words(folder, given, f"out={tmp_path / 'out'}")) == 0
    assert "keep=true copies" in capsys.readouterr().out and not (folder / "runs" / "votes").exists()
    assert main(words(folder, given, f"out={tmp_path / 'out'}", "keep=true")) == 0
    assert main(words(folder, given, f"out={tmp_path / 'out'}", "keep=true")) == 0
    (kept,) = (folder / "runs" / "votes").iterdir()
    assert kept.read_bytes() == (tmp_path / "votes-eve.json").read_bytes()
    text = (tmp_path / "out" / "votes.md").read_text()
    assert "6 votes of 1 rater: eve 6" in text and "agreement is not known" in text
    methods = list(csv.DictReader(io.StringIO((tmp_path / "out" / "votes.csv").read_text())))
    assert [row["method"] for row in methods] == ["sega", "vanilla"]
    assert float(methods[0]["wins"]) == pytest.approx(5.5 / 6) and methods[0]["votes"] == "6"
    assert float(methods[0]["preference"]) == pytest.approx(-float(methods[1]["preference"]))
    assert float(methods[0]["preference"]) > 0
    capsys.readouterr()
    assert report(words(folder, *out)) == 0
    assert "up to date" not in capsys.readouterr().out
    table = {
        (row["height"], row["method"]): row
        for row in csv.DictReader(io.StringIO((folder / "report" / "table.csv").read_text()))
    }
    assert float(table["64", "sega"]["preference"]) == pytest.approx(float(methods[0]["preference"]))
    assert table["64", "yarn"]["preference"] == "" and "nobody has voted" in table["64", "yarn"]["preference_reason"]
    assert f"{float(methods[0]['preference']):.2f} ±" in (folder / "report" / "table.md").read_text()
    assert "(N=6)" in (folder / "report" / "table.md").read_text()
    found = frame(folder / "runs", folder / "cache").query("metric == 'preference' and value > 0")
    assert found["n"].tolist() == [6] and found["method"].tolist() == ["sega"]
    assert report(words(folder, *out)) == 0 and "up to date" in capsys.readouterr().out


def test_votes_are_no_measure_of_images(place, capsys):
    assert evaluate(words(place, "metrics=[preference]")) == 2
    assert "made of votes, not of images" in capsys.readouterr().err


def test_pairs_for_a_judge_and_back(place, tmp_path, capsys):
    pairs = tmp_path / "pairs.csv"
    assert main(words(place, f"pairs={pairs}", "count=30")) == 0
    with pairs.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30 and not any(name in key for row in rows for key in row for name in METHODS)
    assert main(words(place, f"votes={pairs}", f"out={tmp_path / 'out'}")) == 2  # nothing is filled in
    assert "rows without a winner: 30" in capsys.readouterr().err
    methods = [
        frozenset(path.split("/runs/tiny/")[1].split("/")[0] for path in (r["image_a"], r["image_b"])) for r in rows
    ]
    assert {methods.count(pair) for pair in set(methods)} == {10} and len(set(methods)) == 3
    firsts = sum("/sega/" in row["image_a"] for row in rows)
    assert 4 <= firsts <= 16  # of the 20 pairs with sega
    for row in rows:
        a, b = (np.asarray(Image.open(row[f"image_{side}"]), float) for side in "ab")
        assert a.shape == b.shape and row["size"] == f"{a.shape[1]}x{a.shape[0]}"
        row["winner"], row["rater"] = (
            ("a" if "/sega/" in row["image_a"] else "b" if "/sega/" in row["image_b"] else "tie"),
            "j",
        )
    assert main(words(place, f"votes={write(pairs, rows)}", f"out={tmp_path / 'out'}")) == 0
    found = list(csv.DictReader((tmp_path / "out" / "votes.csv").open(newline="")))
    assert [row["wins"] for row in found if row["method"] == "sega"] == ["1.0", "1.0"]
    assert main(words(place, f"pairs={pairs}", "against=vanilla", "count=999")) == 0
    with pairs.open(newline="") as file:
        assert all("/vanilla/" in row["image_a"] + row["image_b"] for row in csv.DictReader(file))
    assert main(words(place, f"pairs={pairs}", "against=nobody")) == 2
