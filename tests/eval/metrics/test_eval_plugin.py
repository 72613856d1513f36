"""Metrics of another package: found by its entry point, scored and reported like ours; a broken one is one line."""

import sys

import pytest
from eval_store import make_run

from eval.metrics import registry
from eval.report.command import main as report
from eval.scoring.command import main as score
from sega import plugins

CODE = """
from eval.metrics.types import Measure, Metric

REDNESS = [
    Measure("redness", "1", "shades.metrics:redness", host="always"),
    Metric("redness", "redness", "1", True, "", "redness", "mean", digits=1, about="mean of the red channel"),
]

def declared():
    return REDNESS

def redness(context):
    return lambda batch: [float(image[..., 0].mean()) for image in batch.images]
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package `shades` with code and an entry point into a folder on sys.path."""

    def installed(code=CODE, entry="shades.metrics:REDNESS"):
        site = tmp_path / "site"
        (site / "shades").mkdir(parents=True)
        (site / "shades" / "__init__.py").touch()
        (site / "shades" / "metrics.py").write_text(code)
        about = site / "shades_of_red-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shades-of-red\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[sega_bench.metrics]\nshades = {entry}\n")
        monkeypatch.syspath_prepend(site)
        plugins.entries.cache_clear()
        registry._found.cache_clear()

    yield installed
    for name in [name for name in sys.modules if name.partition(".")[0] == "shades"]:
        del sys.modules[name]
    monkeypatch.undo()
    plugins.entries.cache_clear()
    registry._found.cache_clear()


@pytest.mark.parametrize("entry", ["shades.metrics:REDNESS", "shades.metrics:declared"])
def test_a_metric_of_another_package_is_scored_and_reported(install, tmp_path, capsys, entry):
    install(entry=entry)
    assert list(registry.metrics())[-1] == "redness"
    make_run(tmp_path / "runs", "vanilla", (32, 32), prompts=2)
    place = [f"store={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}"]
    assert score([*place, "metrics=[redness]", "workers=0", "bootstrap.samples=10"]) == 0
    assert report([*place, f"out={tmp_path / 'out'}", "parts=tables"]) == 0
    header, row = (tmp_path / "out" / "table.csv").read_text().splitlines()[:2]
    value = float(row.split(",")[header.split(",").index("redness")])
    assert 0 < value < 255
    assert "redness ↑" in (tmp_path / "out" / "table.md").read_text()
    assert "mean of the red channel" in (tmp_path / "out" / "table.md").read_text()


BROKEN = {
    "an error": ("1 / 0", "ZeroDivisionError: division by zero"),
    "no such name": ("", "AttributeError: module 'shades.metrics' has no attribute 'REDNESS'"),
    "another thing": ("REDNESS = [5]", "5 is neither a Measure nor a Metric"),
    "a name of ours": (CODE.replace('Metric("redness"', 'Metric("fid"'), "there is a metric fid already"),
    "no measure": (CODE.replace('"redness", "mean"', '"rednes", "mean"'), "has an unknown measure rednes"),
    "no kind": (CODE.replace('"mean"', '"median"'), "has kind median, which is not one of mean, fid"),
    "a relative function": (CODE.replace('"shades.metrics:redness"', '".metrics:redness"'), "package.module:function"),
    "unknown weights": (CODE.replace('host="always"', 'weights=("red",)'), "has unknown weights red"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_package_is_named_in_one_line(install, tmp_path, capsys, case):
    code, why = BROKEN[case]
    install(code)
    for words in ([f"store={tmp_path}", "metrics=[redness]"], ["--help"]):
        assert score(words) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and why in told
        assert "metrics of the package shades-of-red (shades = shades.metrics:REDNESS) can't be used" in told
