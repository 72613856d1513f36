"""The report of a small scored store: what the files say, and that a second call does nothing."""

import csv
import errno
import io
import json
import shutil

import numpy as np
import pytest
from eval_store import make_run, make_scorer
from PIL import Image

from eval.figures import command
from eval.metrics.distances import mmd
from eval.records.rows import load_rows
from eval.report import compare, tables
from eval.report.command import main
from eval.scoring.command import main as score

SENTENCE = "property of the small embedded model"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A scored store: three methods and a variant at two sizes, and its report."""
    folder = tmp_path_factory.mktemp("report")
    make_scorer(folder / "scorer")
    for size in (32, 64):
        make_run(folder / "runs", "vanilla", (size, size), noise=40)
        make_run(folder / "runs", "sega", (size, size), noise=10, amplitude=0.15, kappa=0.08)
        make_run(folder / "runs", "sega", (size, size), noise=20, amplitude=0.0, kappa=0.08)
    words = [
        "patch.size=32",
        "reference.least=12",
        "bootstrap.samples=100",
        "bootstrap.distance_samples=20",
        "metrics=[fid,kid,patch_fid,clip_score,attribute_accuracy,piqe,spectrum_distance]",
    ]
    words += [f"store={folder / 'runs'}", f"cache={folder / 'cache'}", f"clip.path={folder / 'scorer'}"]
    assert score(words) == 0
    assert report(folder) == 0
    return folder


def report(folder, *words):
    return main([f"store={folder / 'runs'}", f"cache={folder / 'cache'}", f"out={folder / 'out'}", "columns=2", *words])


def rows_of(place):
    return load_rows(place / "runs", place / "cache")[0]


def test_rows_are_sorted_and_labelled_by_what_is_not_default(place):
    found = [(row.size, row.label) for row in rows_of(place)]
    labels = ["vanilla", "sega", "sega (amplitude=0)", "true renders"]
    assert found == [("32x32", name) for name in labels] + [("64x64", name) for name in labels]


def test_csv_holds_every_number_with_its_interval_and_reason(place):
    rows = list(csv.DictReader(io.StringIO((place / "out" / "table.csv").read_text())))
    assert len(rows) == 8
    block = json.loads(next((place / "runs").glob("tiny/vanilla/64x64/*/scores.json")).read_text())
    cell = block["protocols"]["embedded"]["metrics"]["fid"]
    row = next(r for r in rows if r["method"] == "vanilla" and r["width"] == "64")
    assert float(row["fid"]) == cell["value"] and float(row["fid_low"]) == cell["low"]
    assert row["fid_n"] == "6" and row["fid_n_reference"] == "12" and row["calls"] == "20.0"
    assert float(row["attribute_accuracy_sky"]) <= 1 and "below the 64" in row["warnings"]
    small = next(r for r in rows if r["method"] == "vanilla" and r["width"] == "32")
    assert small["patch_fid"] == "" and "no larger than a crop" in small["patch_fid_reason"]


def test_markdown_says_n_reasons_and_what_the_numbers_are(place):
    text = (place / "out" / "table.md").read_text()
    assert SENTENCE in text and "References at 64x64: 12 renders" in text
    line = next(line for line in text.splitlines() if line.startswith("| 32x32 | vanilla "))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert "(N=6)" in cells[3] and cells[5].startswith("– (") and cells[-3:] == ["1.50", "20", "700"]
    assert "| size  | method             | class " in text
    letter = cells[5][3]
    assert f"({letter}) the image is no larger than a crop" in text


def test_latex_is_booktabs_with_escapes(place):
    text = (place / "out" / "table.tex").read_text()
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1 and text.count(r"\midrule") == 2
    assert SENTENCE in text and r"4$\times$32 px" in text and "±" not in text
    body = text.split(r"\midrule", 1)[1].split(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 8 and len({line.count("&") for line in lines}) == 1


def test_grid_has_a_row_a_method_and_the_image_itself(place):
    image = Image.open(place / "out" / "grid-tiny-64x64.png")
    from eval.figures import grid
    from eval.figures.crops import Crop

    down = grid.CELL + grid.GAP
    head = image.height - grid.below(Crop(), image.width) - 4 * down
    assert image.width == grid.MARGIN + 2 * down and 40 < head < 90
    row = next(row for row in rows_of(place) if row.label == "vanilla" and row.size == "64x64")
    first = Image.open(row.images["0000", 0].path).resize((grid.CELL, grid.CELL), Image.Resampling.LANCZOS)
    place_ = (grid.MARGIN, head + down)
    shown = np.asarray(image.crop((*place_, place_[0] + grid.CELL, place_[1] + grid.CELL)).convert("RGB"))
    assert (shown == np.asarray(first.convert("RGB"))).all(axis=-1).mean() > 0.75  # all but the crop and its frames


def test_inset_shows_the_outlined_place():
    from eval.figures.crops import Place
    from eval.figures.grid import with_inset

    image = np.zeros((100, 100, 3), np.uint8)
    image[40:60, 40:60] = (255, 0, 0)
    for right, lower in ((True, True), (False, True), (True, False), (False, False)):
        place = Place((0.5, 0.5), (right, lower))
        shown = np.asarray(with_inset(Image.fromarray(image), (200, 200), place, 0.2))
        down, across = slice(-80, -6) if lower else slice(6, 80), slice(-80, -6) if right else slice(6, 80)
        assert (shown[down, across] == (255, 0, 0)).all()


def test_plot_has_a_panel_for_each_metric(place):
    for name in ("scores-tiny.png", "cost-tiny.png"):
        assert Image.open(place / "out" / name).size[0] > 800


def test_a_second_call_does_nothing_and_a_changed_record_is_seen(place, capsys):
    before = {path: path.stat().st_mtime_ns for path in (place / "out").iterdir()}
    assert report(place) == 0
    assert "up to date" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (place / "out").iterdir()} == before
    (place / "out" / "table.tex").write_text("damaged")
    assert report(place) == 0
    assert str(place / "out" / "table.csv") in capsys.readouterr().out
    assert "toprule" in (place / "out" / "table.tex").read_text()


def test_parts_are_made_and_remembered_one_by_one(place, tmp_path, capsys):
    assert (place / "out" / "gallery" / "index.html").exists()
    words = [f"store={place / 'runs'}", f"cache={place / 'cache'}", f"out={tmp_path}"]
    assert main([*words, "parts=tables"]) == 0
    assert (tmp_path / "table.tex").exists() and not list(tmp_path.rglob("*.png"))
    before = (tmp_path / "table.tex").stat().st_mtime_ns
    assert main([*words, "parts=tables,figures"]) == 0
    assert (tmp_path / "grid-tiny-64x64.png").exists() and not (tmp_path / "gallery").exists()
    assert (tmp_path / "table.tex").stat().st_mtime_ns == before
    assert set(json.loads((tmp_path / "report.json").read_text())) >= {"tables", "grid", "size", "cost"}
    capsys.readouterr()
    assert command.main(["cost", *words, "cost=calls"]) == 0
    assert str(tmp_path / "cost-tiny.png") in capsys.readouterr().out


def test_unscored_runs_are_named(place, capsys, tmp_path):
    shutil.copytree(place / "runs", tmp_path / "runs")
    next((tmp_path / "runs").glob("tiny/vanilla/32x32/*/scores.json")).unlink()
    assert main([f"store={tmp_path / 'runs'}", f"cache={place / 'cache'}", f"out={tmp_path / 'out'}"]) == 0
    assert "not scored yet: tiny vanilla 32x32" in capsys.readouterr().err


def test_records_without_images_still_make_tables(place, capsys, tmp_path):
    shutil.copytree(place / "runs", tmp_path / "runs", ignore=shutil.ignore_patterns("*.png"))
    assert main([f"store={tmp_path / 'runs'}", f"cache={place / 'cache'}", f"out={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "out" / "table.csv").read_text() == (place / "out" / "table.csv").read_text()
    assert "no grid-tiny-64x64.png: images of vanilla are missing" in capsys.readouterr().out


def test_paired_distance_equals_the_difference_on_the_same_images(place):
    rows = {(row.size, row.label): row for row in rows_of(place)}
    a, b = rows["64x64", "sega"], rows["64x64", "vanilla"]
    comparison = compare.Comparison(place / "cache")
    found = comparison.pair(a, b, "fid")
    assert found.difference.value == pytest.approx(a.cell("fid")["value"] - b.cell("fid")["value"], abs=1e-7)
    assert found.difference.n == 6 and found.win is None
    identity = a.block["reference"]["identity"]
    reference = np.load(place / "cache" / "references" / f"{identity}.npz")["features"]
    found = comparison.pair(a, b, "kid").difference
    by_hand = [mmd.mmd(row.arrays["features"].astype(float), reference) for row in (a, b)]
    assert found.value == pytest.approx(by_hand[0] - by_hand[1])
    assert comparison.pair(a, a, "fid").difference.high == pytest.approx(a.cell("fid")["value"] * 0, abs=1e-12)


def test_less_noise_wins_in_the_spectrum_and_is_marked(place):
    rows = {(row.size, row.label): row for row in rows_of(place)}
    comparison = compare.Comparison(place / "cache")
    pair = comparison.pair(rows["64x64", "sega"], rows["64x64", "vanilla"], "spectrum_distance")
    pair = compare.judged([pair])[0]
    assert pair.verdict == "better" and pair.win.value == 1.0 and pair.difference.high < 0
    back = comparison.pair(rows["64x64", "vanilla"], rows["64x64", "sega"], "spectrum_distance")
    back = compare.judged([back])[0]
    assert back.verdict == "worse" and back.win.value == 0.0
    assert not compare.mark(list(rows.values()), comparison).found  # six prompts are too few against two others
    del rows["64x64", "sega (amplitude=0)"]
    marks = compare.mark(list(rows.values()), comparison)
    assert marks.of(rows["64x64", "sega"], "spectrum_distance") == "best"
    assert marks.of(rows["64x64", "vanilla"], "spectrum_distance") == ""
    assert marks.of(rows["64x64", "sega"], "attribute_accuracy") == ""
    assert not any(metric == "piqe" for _, metric in marks.found)
    text = tables.to_markdown(list(rows.values()), marks)
    assert "**" in text and "Bold is the best" in text


def test_paired_table_has_the_variant_against_its_default(place):
    lines = (place / "out" / "paired.csv").read_text().splitlines()
    assert any(",sega (amplitude=0),sega,spectrum_distance," in line for line in lines)
    assert SENTENCE in (place / "out" / "paired.md").read_text()


@pytest.mark.parametrize(
    "words, message",
    [
        (["store=/nowhere"], "no runs in /nowhere"),
        (["parts=tables,figure"], "unknown part figure in parts=tables,figure; did you mean 'figures'"),
        (["colums=3"], "unknown option colums; did you mean 'columns'"),
        (["columns=0"], "columns=0 must be a whole number"),
        (["crop=1,2"], "crop=1,2 must be x,y,side"),
        (["eval=embeded"], "did you mean 'embedded'"),
        (["model=tony"], "no run of model=tony"),
        ([f"out={__file__}"], "must name a folder that can be written to"),
    ],
)
def test_wrong_requests_get_one_line(place, words, message, capsys):
    assert report(place, *words) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


@pytest.mark.parametrize("module", ["report.command", "gallery.page", "published.command", "figures.command"])
def test_a_disk_that_takes_no_more_is_named_in_one_line(module, monkeypatch, capsys):
    """Of all commands that write reports."""
    import importlib

    from eval import options

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "results/table.csv")

    monkeypatch.setattr(options, "parse", full)
    assert importlib.import_module(f"eval.{module}").main(["out=results"]) == 1
    told = capsys.readouterr().err
    assert told == "error: results/table.csv: No space left on device; finished files are kept\n"
