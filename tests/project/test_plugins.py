"""A package outside the tree brings a method and a family of models; for a first try, a file does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small import run

from sega import RequestError, load_method, plugins
from sega.testing import check_golden, check_method

ROOT = Path(__file__).resolve().parents[2]
METHOD = '''
from dataclasses import dataclass
from typing import ClassVar

from sega import Axis, Method
from sega.methods.base import uniform_axis
from sega.methods.parameters import number


@dataclass(frozen=True)
class Partly(Method):
    """Position interpolation, in part."""

    share: float = number(0.5, low=0, high=1, doc="0: the model as it is; 1: position interpolation")

    name: ClassVar[str] = "partly"

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        from sega.formulas import rope

        return uniform_axis(rope.pi(dim, self.geometry.theta, 1 + self.share * (scale - 1)))
'''
FAMILY = """
from sega.methods.families import Family
from sega.models.flux import FluxAdapter


class Adapter(FluxAdapter):
    family = "other"


OTHER = Family("other", "OtherTransformer2DModel", "partly_package.models:Adapter", ("OtherPipeline",), guided=1.0)
"""
ENTRIES = """[sega_bench.methods]
partly = partly_package.methods:Partly
[sega_bench.models]
other = partly_package.models:OTHER
"""
LINE = ("model=tiny", "res=256", "dry_run=true", "prompts.count=1")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install `partly_package` into a folder on sys.path; its config is not on any search path."""

    def install(method=METHOD, entries=ENTRIES):
        site = tmp_path / "site"
        (site / "partly_package" / "conf" / "method").mkdir(parents=True)
        (site / "partly_package" / "__init__.py").touch()
        (site / "partly_package" / "methods.py").write_text(method)
        (site / "partly_package" / "models.py").write_text(FAMILY)
        (site / "partly_package" / "conf" / "method" / "half.yaml").write_text(
            "name: partly\nshare: 0.25\nschedule: stock\n"
        )
        about = site / "partly-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: partly\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(entries)
        monkeypatch.syspath_prepend(site)
        plugins.entries.cache_clear()
        return site

    yield install
    monkeypatch.undo()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("partly_package", "mine")]:
        del sys.modules[name]
    plugins.entries.cache_clear()


def test_the_method_takes_at_most_25_lines():
    assert len([line for line in METHOD.splitlines() if line.strip()]) <= 25


def test_a_method_is_found_by_its_entry_point(package, monkeypatch, capsys, tmp_path):
    package()
    method = load_method("partly", "flux", ["share=1"])
    assert method.parameters() == {"schedule": "pinned", "share": 1}
    pi = load_method("pi", "flux").positions((128, 96))
    assert method.positions((128, 96)).height.frequencies.equal(pi.height.frequencies)
    status, out, err = run(monkeypatch, capsys, *LINE, f"store={tmp_path}", "method=partly", "method.share=0.25")
    assert status == 0 and "tiny partly 256x256" in out, err
    status, out, err = run(monkeypatch, capsys, *LINE, f"store={tmp_path}", "method=partly", "method.shar=0.25")
    assert status == 2 and "did you mean 'method.share'" in err and err.count("\n") == 1
    with pytest.raises(RequestError, match="did you mean 'partly'"):
        load_method("partyl")


def test_its_config_is_found_on_the_search_path(package, monkeypatch, capsys, tmp_path):
    conf = package() / "partly_package" / "conf"
    line = [*LINE, f"store={tmp_path}", "method=half"]
    assert "unknown method 'half'" in run(monkeypatch, capsys, *line)[2]
    for words in (
        ["--config-dir", str(conf)],
        [f"--config-dir={conf}"],
        ["hydra.searchpath=[pkg://partly_package.conf]"],
    ):
        status, out, err = run(monkeypatch, capsys, *line, *words)
        assert status == 0 and "tiny partly 256x256" in out and "stock shift" in out, err


def test_every_check_runs_by_one_line(package):
    package()
    check_method("partly", share=0.5)
    rope = load_method("partly", "flux", ["share=1"]).positions((128, 128))
    values = {"128x128/times": np.array([0.5]), "128x128/freq_h": rope.height.frequencies.numpy()[None]}
    values["128x128/freq_w"] = values["128x128/freq_h"]
    assert check_golden(load_method("partly", "flux", ["share=1"]), values) == 2
    with pytest.raises(AssertionError):
        check_golden(load_method("partly", "flux", ["share=0.5"]), values)


def test_a_check_finds_a_method_that_changes_the_training_size(package):
    always = "    def scales(self, grid: tuple[int, int]) -> tuple[float, float]:\n        return 2.0, 2.0\n"
    package(f"{METHOD}\n{always}")
    with pytest.raises(AssertionError, match="changes positions at the training size"):
        check_method("partly")


def test_a_first_try_needs_no_package(package, monkeypatch, capsys, tmp_path):
    (tmp_path / "mine.py").write_text(METHOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    line = [*LINE, f"store={tmp_path / 'runs'}"]
    status, out, err = run(monkeypatch, capsys, *line, "method.target=mine:Partly", "method.share=0.75")
    assert status == 0 and "tiny partly 256x256" in out, err
    for target, why in (
        ("mine:Whole", "has no attribute 'Whole'"),
        ("absent:Partly", "No module named 'absent'"),
        ("mine", "must be <module>:<class>"),
        ("mine:Axis", "is no subclass of sega.Method"),
    ):
        status, out, err = run(monkeypatch, capsys, *line, f"method.target={target}")
        assert status == 2 and why in err and err.count("\n") == 1


def test_a_broken_package_is_one_line_and_stops_nobody_else(package, monkeypatch, capsys, tmp_path):
    package(method="import nothing_of_that_name\n")
    line = [*LINE, f"store={tmp_path}"]
    status, out, err = run(monkeypatch, capsys, *line, "method=partly")
    named = "methods of the package partly (partly = partly_package.methods:Partly) can't be used: ModuleNotFoundError"
    assert status == 2 and named in err
    assert err.count("\n") == 1
    assert run(monkeypatch, capsys, *line, "method=ntk")[0] == 0


def test_a_family_of_models_is_found_by_its_entry_point(package):
    from types import SimpleNamespace

    from sega.methods.families import family_named
    from sega.methods.geometry import load_geometry
    from sega.models import adapter_for

    package()
    family = family_named("other")
    assert family.guided == 1.0 and family.pipelines == ("OtherPipeline",)
    geometry = type(load_geometry("flux"))(**(vars(load_geometry("flux")) | {"family": "other"}))
    assert geometry.facts is family
    transformer = type("OtherTransformer2DModel", (), {"forward": lambda self, hidden_states: None})()
    assert type(adapter_for(transformer)).__name__ == "Adapter"
    with pytest.raises(RequestError, match="no adapter for SimpleNamespace"):
        adapter_for(SimpleNamespace())


def test_a_new_method_passes_as_it_is_written(tmp_path):
    environment = {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "sega.command", "new-method", "half_way"]

    def call(*line):
        import os

        return subprocess.run(line, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True)

    done = call(*words)
    assert done.returncode == 0 and "method.target=half_way:HalfWay" in done.stdout, done.stderr
    assert len((tmp_path / "half_way.py").read_text().splitlines()) <= 25
    assert call(sys.executable, "-m", "pytest", "-q", "test_half_way.py").returncode == 0
    line = [sys.executable, str(ROOT / "run.py"), *LINE, "method=half_way", "--config-dir", "conf"]
    done = call(*line)
    assert done.returncode == 0 and "tiny half_way 256x256" in done.stdout, done.stderr
    again = call(*words)
    assert again.returncode == 2 and "is there already" in again.stderr and again.stderr.count("\n") == 1
    for name, why in (("Half", "small letters"), ("sega", "there is a method sega already")):
        done = call(*words[:-1], name)
        assert done.returncode == 2 and why in done.stderr
