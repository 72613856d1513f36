"""`sega-bench doctor`: what is missing or too old is named, with what mends it."""

import re

import pytest

from sega import doctor
from sega.run.cli import main as run


@pytest.fixture
def examine(monkeypatch, capsys, tmp_path):
    """The exit status and the lines where packages have other versions; None: not installed."""

    def examined(**versions):
        sound = doctor.version
        monkeypatch.setattr(doctor, "version", lambda name: versions[name] if name in versions else sound(name))
        status = doctor.main([f"store={tmp_path}"])
        return status, capsys.readouterr().out.splitlines()

    return examined


def test_a_sound_installation(examine):
    status, lines = examine()
    assert status == 0
    assert not [line for line in lines if "missing" in line or "needs" in line]
    assert any(line.startswith("model=tiny ") and line.endswith("pipeline") for line in lines)


def test_what_fits_is_the_plan_of_a_dry_run(examine, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "gpus", lambda: {"cuda:0": 36e9})
    _, lines = examine()
    at = next(i for i, line in enumerate(lines) if line.startswith("what fits"))
    heads, rows = lines[at + 1].replace(" GB", "").split(), lines[at + 2 : at + 8]
    assert heads == ["24", "48", "80", "cuda:0"]
    found = {row[:14].strip(): row[14:].split() for row in rows}
    assert list(found) == [f"{m} {px} px" for m, n in (("flux", 1024), ("qwen", 1328)) for px in (n, 2 * n, 4 * n)]
    for name, budget, place in (("flux 4096 px", 24, 0), ("qwen 2656 px", 48, 1), ("flux 4096 px", 36, 3)):
        model, side, _ = name.split()
        words = [f"model={model}", "method=vanilla", f"res={side}", "dry_run=true", f"model.budget_gb={budget}"]
        assert run(words) == 0
        mode, needs = found[name][2 * place : 2 * place + 2]
        plan = re.search(r"model\.memory=(\w+) takes about ([\d.]+) GB", capsys.readouterr().out)
        assert plan[1] == mode and abs(float(plan[2]) - float(needs)) <= 0.55


@pytest.mark.parametrize(("version", "what"), [(None, "missing"), ("0.30.0", "0.30.0, needs >=0.42")])
def test_a_package_that_generating_needs(examine, version, what):
    status, lines = examine(diffusers=version)
    assert status == 1
    at = next(i for i, line in enumerate(lines) if line.startswith("diffusers"))
    assert lines[at].split(maxsplit=1)[1] == what and "              pip install sega-bench" in lines


def test_a_package_of_an_extra_stops_nobody(examine):
    status, lines = examine(wandb=None, pyiqa="0.1.1")
    assert status == 0
    assert "[track]       pip install 'sega-bench[track]': wandb (missing)" in lines
    assert "[eval]        pip install 'sega-bench[eval]': pyiqa (0.1.1, needs >=0.1.13)" in lines


def test_a_wheel_knows_what_it_needs(monkeypatch):
    def lines(of):
        return ["torch>=2.6", 'wandb>=0.19; extra == "track"', 'joblib; extra == "cluster"', 'ruff; extra == "dev"']

    monkeypatch.setattr(doctor, "CLONE", None)
    monkeypatch.setattr(doctor.metadata, "requires", lines)
    found = {extra: list(items) for extra, items in doctor.requirements().items()}
    others = {extra: [] for extra in ("eval", "upscale", "lite0", "search")}
    assert found == {"": ["torch"], "track": ["wandb"], "cluster": ["joblib"], **others}
