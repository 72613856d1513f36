"""Presets of published tables: each plans, states its cost, and runs on a small model."""

import sys
from pathlib import Path

import pytest
import torch
from random_weights import upscaler
from safetensors.torch import load_file

from sega.home import CONF
from sega.run import cli
from sega.run.request import read_request

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

import preset_costs  # noqa: E402

PRESETS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml") if path.stem != "demo")
TINY = ("model=tiny", "prompts.limit=2", "steps=2", "device=cpu")


@pytest.fixture(autouse=True)
def bsrgan(tmp_path, monkeypatch):
    """A working folder with the weights that some presets need."""
    torch.save(load_file(upscaler(tmp_path / "network.safetensors", scale=4)), tmp_path / "BSRGAN.pth")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_states_its_cost_by_counted_operations(name):
    """What its header says is what scripts/preset_costs.py counts for the published model."""
    line = preset_costs.cost_line(name)
    assert line in (CONF / "experiment" / f"{name}.yaml").read_text().splitlines(), line


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_takes_the_sizes_of_the_embedded_model_in_proportion(name):
    asked = read_request(["-m", f"experiment={name}", *TINY])
    for cell in asked.cells:
        assert cell.model["name"] == "tiny" and len(cell.prompts) == 2 and cell.config["eval"]["name"] == "embedded"
        assert all(side % 8 == 0 and 384 <= side <= 1152 for side in cell.request.size)
        assert cell.stages[0].steps in (2, 30) and cell.request.steps == 2
    assert len({(cell.method, cell.request.size) for cell in asked.cells}) == len(asked.cells)
    assert "hydra.sweeper.params=null" in asked.words


def test_keys_on_the_line_replace_what_a_preset_sweeps():
    asked = read_request(["-m", "experiment=dype_1", *TINY, "method=ntk,sega", "res=128"])
    assert [cell.method.name for cell in asked.cells] == ["ntk", "sega"]
    assert {cell.request.size for cell in asked.cells} == {(128, 128)}


def test_multiples_in_a_preset_are_of_the_model_that_runs():
    from types import SimpleNamespace

    from sega.methods.geometry import load_geometry
    from sega.run.request import _fit

    small = SimpleNamespace(native=192, geometry=vars(load_geometry("tiny")))
    assert [_fit(size, small) for size in ("2x", "1.5x", "4096", "2048x4096")] == ["2x", "1.5x", "768x768", "384x768"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_runs(name, tiny_folder, tmp_path, monkeypatch, capsys):
    """On a small random pipeline that takes 32 px for its training size, so that 4096 px become 128."""
    monkeypatch.setattr("sega.loading.weights.HASHES", tmp_path / "weights.json")
    words = ["-m", f"experiment={name}", *TINY, f"model.path={tiny_folder}", f"store={tmp_path / 'runs'}"]
    small = ["model.native=32", "model.geometry.train_tokens=4", "model.geometry.sega_train_tokens=4"]
    assert cli.main([*words, *small]) == 0, capsys.readouterr()
    images = len(list((tmp_path / "runs").glob("tiny/*/*/*/*.png")))
    assert images == 2 * len(capsys.readouterr().out.splitlines()) > 0
