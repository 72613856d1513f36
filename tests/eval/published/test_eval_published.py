"""The papers' values: read whole, joined to the right rows, and told apart."""

import csv

import pytest

from eval.published.command import main
from eval.published.mapping import label
from eval.published.text import to_csv, to_latex, to_markdown
from eval.published.values import FOLDER, join, load, of_paper
from eval.records.rows import Row
from eval.records.runs import Run


def row(model, size, label, **cells):
    width, height = map(int, size.split("x"))
    about = {"low": None, "high": None, "n": 50, "digits": 2}
    metrics = {name: {"value": value, "title": name} | about for name, value in cells.items()}
    run = Run(FOLDER, model, label.split()[0], width, height, "x", {}, {}, [])
    return Row(run, "plain", {"n": 50, "metrics": metrics, "cost": {"seconds": None}}, label)


def find(joined, *key):
    return next(j for j in joined if (j.model, j.size, j.method, j.metric) == key)


def test_every_printed_value_is_read():
    count = sum(len(list(csv.DictReader(path.open(newline="")))) for path in FOLDER.glob("*.csv"))
    values = load()
    assert len(values) == count > 900
    assert {v.family for v in values if v.model.startswith("FLUX")} == {"flux"}
    assert {v.family for v in values if v.model in ("SDXL", "unknown", "own weights")} == {""}


def test_clip_of_ultraimage_is_brought_to_the_scale_of_the_others():
    values = [v for v in load() if v.paper == "UltraImage" and v.metric == "clip_score"]
    assert values and all(10 < v.value < 50 and float(v.text) < 1 for v in values)


def test_spread_is_between_papers():
    joined = join([])
    both = find(joined, "flux", "4096x4096", "vanilla", "fid")
    assert {v.paper for v in both.values} >= {"SEGA", "AReA", "DyPE"}
    assert both.spread == pytest.approx(195.68 - 179.8, abs=0.01)
    assert find(joined, "flux", "2048x2048", label("hiflow variant=paper"), "fid").spread is None


def test_ours_stands_beside_the_same_model_size_and_method():
    ours = row("flux", "4096x4096", "vanilla", fid=190.0)
    others = row("qwen", "4096x4096", "vanilla", fid=1.0), row("flux", "2048x2048", "vanilla", fid=2.0)
    joined = join([ours, *others])
    entry = find(joined, "flux", "4096x4096", "vanilla", "fid")
    assert entry.ours is ours
    text = to_markdown([entry])
    assert "190.00 (N=50)" in text and "-5.68 to 10.20" in text
    lines = list(csv.DictReader(to_csv([entry]).splitlines()))
    dype = next(line for line in lines if line["paper"] == "DyPE")
    assert dype["published"] == "195.68" and float(dype["difference"]) == pytest.approx(-5.68)
    assert find(joined, "flux", "4096x4096", "dype", "fid").ours is None


def test_a_distance_on_another_network_does_not_stand_beside_a_published_fid():
    other = row("flux", "4096x4096", "vanilla", fid=190.0)
    other.block["settings"] = {"features": "lite0"}
    assert find(join([other]), "flux", "4096x4096", "vanilla", "fid").ours is None


def test_ours_is_the_run_that_the_table_asks_for():
    """HiFlow's own table has the stages of its text; the form that others ran is another row."""
    paper = row("flux", "4096x4096", label("hiflow variant=paper"), clip_score=30.0)
    code = row("flux", "4096x4096", "hiflow", clip_score=30.0)
    joined = join([paper, code])
    for ours, papers in ((paper, {"HiFlow"}), (code, {"ResDiT"})):
        entry = find(joined, "flux", "4096x4096", ours.label, "clip_score")
        assert entry.ours is ours and {v.paper for v in entry.values} == papers


def test_a_row_that_nothing_runs_is_not_taken_for_the_method_of_its_name():
    """UltraImage's NTK with a given view is no run of NTK."""
    fid = [j for j in join([row("flux", "3600x3600", "ntk", fid=1.0)]) if (j.size, j.metric) == ("3600x3600", "fid")]
    direct = next(j for j in fid if j.method == "ntk")
    view = next(j for j in fid if j.method == "ntk, table 1 (guided view)")
    assert direct.ours and {v.table for v in direct.values} == {"1 (direct)"}
    assert view.ours is None and {v.table for v in view.values} == {"1 (guided view)"}


def test_ablations_stay_out():
    assert not any("ablation" in v.notes for j in join([]) for v in j.values)


KEY = ("flux", "4096x4096", "vanilla", "clip_score")


def test_a_paper_table_has_a_row_for_each_of_its_data_sets_and_prefers_runs_of_its_protocol():
    plain = row("flux", "4096x4096", "vanilla", clip_score=1.0)
    own = row("flux", "4096x4096", "vanilla", clip_score=27.0)
    own.protocol = "dype"
    own.block["cost"] = {"seconds": 12.3}
    for rows in ([plain, own], [own, plain]):
        joined = of_paper(join(rows, protocol="dype"), "DyPE")
        entries = [j for j in joined if (j.model, j.size, j.method, j.metric) == KEY]
        assert len(entries) > 1 and len({j.dataset for j in entries}) == len(entries)
        assert {j.ours for j in entries} == {own}
    text = to_markdown(entries, "DyPE")
    assert "ours − DyPE" in text and text.count("| 27.00") == len(entries)
    first = next(value for value in entries[0].values if value.paper == "DyPE")
    assert f"{27.0 - first.value:.2f}" in text
    latex = to_latex(entries, "DyPE")
    assert latex.count(r"\toprule") == 1 and "booktabs" in latex and latex.count(r"\\") == len(entries) + 1


def test_seconds_stand_beside_latencies():
    ours = row("flux", "4096x4096", "sega")
    ours.block["cost"] = {"seconds": 100.0}
    entry = find(join([ours]), "flux", "4096x4096", "sega", "latency_s")
    assert "100.0" in to_markdown([entry])


def test_the_command_writes_the_table_once(tmp_path, capsys):
    words = ["paper=sega", f"store={tmp_path / 'runs'}", f"out={tmp_path}"]
    assert main(words) == 0
    assert f"entries of SEGA have a run of ours\n{tmp_path / 'table-sega.csv'}" in capsys.readouterr().out
    files = [tmp_path / f"table-sega.{end}" for end in ("csv", "md", "tex")]
    before = [path.stat().st_mtime_ns for path in files]
    assert main(words) == 0 and [path.stat().st_mtime_ns for path in files] == before
    assert main(["paper=saga", f"out={tmp_path}"]) == 2
    assert "unknown paper=saga; did you mean 'sega'" in capsys.readouterr().err
    for name in ("third_party", "pixelrush"):
        assert main([f"paper={name}", f"out={tmp_path}"]) == 2
        assert "has no value of a model in conf" in capsys.readouterr().err
