"""The summary on the screen: its width, what is marked, what is said of the native size, and what to open."""

from pathlib import Path

import pytest

from eval.records.rows import Row
from eval.records.runs import Run
from eval.report.summary import summary, where_to_look
from eval.report.tables import Marks


def row(method, side, n=8, attributes=0.9, label=None, native=192, **more):
    """A scored run, as its records say."""
    run = Run(Path(method), "tiny", method, side, side, "abc", {"model": {"id": "embedded"}}, {}, [])
    ends = {"low": attributes - 0.05, "high": attributes + 0.05}
    cells = {
        "attribute_accuracy": {"value": attributes, **ends, "digits": 3},
        "clip_score": {"value": 90.0, "low": None, "high": None, "digits": 2},
        "fid": {"value": 5.29, "low": 1.0, "high": 9.0, "n": n, "digits": 2, "warning": "N is small"},
        "piqe": {"value": 20.0, "low": 19.0, "high": 21.0, "digits": 1},
    } | more
    settings = {"bootstrap": {"level": 0.95}}
    block = {"n": n, "native": native, "metrics": cells, "cost": {"seconds": 2.4}, "settings": settings}
    return Row(run, "embedded", block, label or method)


@pytest.fixture
def rows():
    return [row("vanilla", 192), row("renders", 192), row("vanilla", 384, attributes=0.4), row("sega", 384)]


def test_the_table_is_of_the_sizes_above_the_training_side_and_native_is_one_sentence(rows):
    text = summary(rows, Marks({(id(rows[3]), "attribute_accuracy"): "best"}))
    lines = text.splitlines()
    assert lines[0] == "tiny at 384x384, 2x the training side: N=8 images per method (protocol embedded)"
    assert lines[2].split("  ")[0] == "method" and "PIQE" not in text
    assert lines[3].split() == ["vanilla", "0.400", "±0.050", "90.00", "5.29", "±4.00", "2.40"]
    assert lines[4].split() == ["sega", "0.900", "±0.050", "*", "90.00", "5.29", "±4.00", "2.40"]
    said = " ".join(lines)
    assert "At 1x (192x192) the direct methods equal the plain model bit for bit, so it was made once (N=8)" in said
    assert "* is the best of its column: better than every other method in a paired test (Holm)" in said
    assert "FID of so few images is biased upwards" in said and "property of the small embedded model" in said


def test_nothing_is_marked_where_nothing_is_beyond_doubt(rows):
    text = summary(rows, Marks({(id(rows[3]), "attribute_accuracy"): "second"}))
    assert "*" not in text and "no value is marked as the best" in " ".join(text.split())


def test_other_methods_at_the_training_size_are_not_called_the_plain_model(rows):
    assert "bit for bit" not in summary([*rows, row("upsample", 192)], Marks({}))


def test_without_larger_sizes_the_training_size_has_the_table():
    text = summary([row("vanilla", 192), row("sega", 192, n=4)], Marks({}))
    assert text.startswith("tiny at 192x192, 1x the training side: N=4 to 8 images") and "bit for bit" not in text


@pytest.mark.parametrize("label", ["sega", "sega (amplitude=0, kappa=0.08, source=tokens) [steps=20, guidance=3.5]"])
def test_no_line_is_wider_than_80_columns(rows, label):
    wide = {"value": 123456.7, "low": 123000.0, "high": 124000.0, "digits": 2}
    more = {name: wide for name in ("clip_score", "imagereward", "fid", "spectrum_distance", "high_frequency")}
    text = summary([*rows, row("sega", 384, label=label, **more)], Marks({}))
    assert max(map(len, text.splitlines())) <= 80 and "attributes ↑" in text


def test_decimals_go_before_columns(rows):
    """Where the columns don't fit, values have one decimal less, then labels are cut, and then columns go."""
    fid = {"value": 0.731, "low": 0.2, "high": 2.61, "n": 8, "digits": 2}
    accuracy = {"value": 0.9951, "low": 0.984, "high": 1.0, "digits": 3}
    label = "upsample (kind=model, weights=b0cc0f83)"
    text = summary([*rows, row("sega", 384, label=label, fid=fid, attribute_accuracy=accuracy)], Marks({}))
    assert "upsample (kind=mo…" in text and "1.00 [0.98, 1.00]" in text and "0.7 [0.2, 2.6]" in text
    assert max(map(len, text.splitlines())) <= 80


def test_one_file_is_to_be_opened():
    grid = [Path("out/grid-tiny-192x192.png"), Path("out/grid-tiny-384x384.png")]
    assert where_to_look([Path("out/table.md"), *grid, Path("out/gallery/index.html")]) == "Open out/gallery/index.html"
    assert where_to_look([Path("out/table.md"), *grid]) == "Open out/grid-tiny-384x384.png"
    assert where_to_look([Path("out/table.md")]) == "Open out/table.md"
