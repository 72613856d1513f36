"""Scores as a DataFrame, and the records they come from: every key that is written is declared, and the reverse."""

import json

import pytest
from eval_store import make_run

from eval.export import main as export
from eval.records import frame
from eval.records.schema import MetricScore, ScoreBlock, ScoreFile, ScoreRow
from eval.scoring.command import main as score
from sega.errors import RequestError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A scored store of two methods, with a distance that has too few images to be had at one size."""
    folder = tmp_path_factory.mktemp("frame")
    make_run(folder / "runs", "vanilla", (32, 32), prompts=3, noise=20)
    make_run(folder / "runs", "ntk", (64, 64), prompts=3)
    words = ["metrics=[fid,kid,attribute_accuracy,piqe,repetition]", "reference.least=6", "bootstrap.samples=20"]
    words += ["bootstrap.distance_samples=5", "workers=0", f"store={folder / 'runs'}", f"cache={folder / 'cache'}"]
    assert score(words) == 0
    return folder


def test_every_scored_run_and_metric_is_a_row(place):
    found = frame(place / "runs", place / "cache")
    whole = found[found["part"] == ""]
    assert set(whole["method"]) == {"vanilla", "ntk", "true renders"} and list(whole["renders"]).count(True) == 10
    assert len(whole) == 4 * 5 and not whole.duplicated(["model", "protocol", "width", "method", "metric"]).any()
    path = next((place / "runs").glob("tiny/ntk/64x64/*/scores.json"))
    cells = json.loads(path.read_text())["protocols"]["embedded"]["metrics"]
    for _, row in whole[whole["method"] == "ntk"].iterrows():
        cell = cells[row["metric"]]
        assert row["images"] == 3 and row["calls"] == 20
        if "value" in cell:
            assert (row["value"], row["n"]) == (cell["value"], cell["n"])
        else:
            assert row["reason"] == cell["reason"] and row["value"] != row["value"]  # NaN
    parts = found[(found["method"] == "ntk") & (found["part"] == "sky")]
    assert list(parts["value"]) == [cells["attribute_accuracy"]["parts"]["sky"]["value"]]


def test_runs_are_chosen_by_name(place):
    assert set(frame(place / "runs", place / "cache", method="ntk")["method"]) == {"ntk", "true renders"}
    with pytest.raises(RequestError, match="no run of method=ntkk in .*; did you mean 'ntk'"):
        frame(place / "runs", place / "cache", method="ntkk")


def _blocks(place):
    """The metrics of every run."""
    paths = (place / "runs").rglob("scores.json")
    return [json.loads(path.read_text())["protocols"]["embedded"]["metrics"] for path in paths]


def test_the_two_exported_files(place, capsys):
    import pandas

    words = [f"store={place / 'runs'}", f"cache={place / 'cache'}", f"out={place / 'export'}"]
    assert export(words) == 0 and "images.parquet" in capsys.readouterr().out
    images, cells = (pandas.read_parquet(place / "export" / f"{name}.parquet") for name in ("images", "cells"))
    folder = next((place / "runs").glob("tiny/ntk/64x64/*"))
    scored = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    own = images[images["method"] == "ntk"].set_index("prompt_id")
    assert len(own) == 3 and list(own["width"]) == [64] * 3
    for item in scored:
        row = own.loc[item["prompt_id"]]
        assert (row["prompt"], row["sha256"]) == (item["prompt"], item["sha256"]) and row["file"].endswith(item["file"])
        assert row["piqe"] == item["values"]["piqe"]
        assert row["attributes"] == item["values"]["attributes"]["mean"]
        assert row["attributes.sky"] == item["values"]["attributes"]["sky"]
    block = json.loads((folder / "scores.json").read_text())["protocols"]["embedded"]["metrics"]
    (cell,) = [row for _, row in cells.iterrows() if row["method"] == "ntk"]
    assert json.loads(cell["settings"]) == {"name": "ntk"} and cell["calls"] == 20
    for name in ("attribute_accuracy", "piqe"):
        value = block[name]
        assert [cell[name + end] for end in ("", "_low", "_high", "_n")] == [
            value[key] for key in ("value", "low", "high", "n")
        ]
    assert all(cells[name].isna().any() == any("value" not in b[name] for b in _blocks(place)) for name in block)
    assert export(["store=nowhere"]) == 2


def test_what_is_written_is_what_is_declared(place):
    cells, kinds = set(), {"block": ScoreBlock, "row": ScoreRow, "file": ScoreFile}
    for path in (place / "runs").rglob("scores.json"):
        record = json.loads(path.read_text())
        block = record["protocols"]["embedded"]
        row = json.loads(path.with_name("scores.jsonl").read_text().splitlines()[0])
        found = {"block": block, "row": row, "file": record}
        assert {name: set(value) for name, value in found.items()} == {
            name: set(kind.__annotations__) for name, kind in kinds.items()
        }
        for cell in block["metrics"].values():
            assert MetricScore.__required_keys__ <= set(cell)
            cells |= set(cell)
    assert cells == set(MetricScore.__annotations__) - {"crops"}  # of patch_fid and patch_kid only


@pytest.mark.parametrize("kind", [MetricScore, ScoreBlock, ScoreRow, ScoreFile])
def test_every_key_has_a_sentence(kind):
    from typing import get_type_hints

    for name, hint in get_type_hints(kind, include_extras=True).items():
        hint = hint if hasattr(hint, "__metadata__") else hint.__args__[0]  # NotRequired holds the hint
        (sentence,) = hint.__metadata__
        assert sentence.endswith("."), name
