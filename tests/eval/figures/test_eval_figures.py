"""Figures over steps, from the records of a synthetic store."""

import numpy as np
import pytest
import torch
from eval_store import make_run
from PIL import Image

from eval.figures import command, steps
from eval.figures.steps import one_prompt
from eval.output.manifest import NothingError
from eval.records.runs import load_run
from eval.records.steps import load, of_size
from sega.methods.types import Step
from sega.store.step_files import rows_file, write_steps


def record(folder, number: int, spectral: bool, query=(4, 4), start: int = 0) -> None:
    """Four steps of image `number`: a base stage of another grid, a probe, then the stage itself."""
    steps = [Step(0, 1.0, (4, 4), 0, details={"attention": torch.full((4, 4), 0.05), "spectrum": [1.0] * 5})]
    steps.append(Step(0, 1.0, (8, 8), 1, details={"probe": True}))
    for k in range(start, 3):
        attention = torch.full((8, 8), 0.01)
        attention[2, 6] = 0.3 + 0.01 * k
        details = {
            "attention": attention,
            "attention_distance": [2.0 + k, 3.0],
            "attention_text": [0.1, 0.2],
            "query": query,
            "spectrum": [5.0] + [1.0 / (k + 1)] * 8,
            "spectrum_clean": [4.0] + [0.5] * 8,
            "magnitudes": (torch.linspace(1, 1.2, 5), torch.linspace(1.1, 1, 5)),
        }
        if spectral:
            details |= {"strength": 0.2 * k + 0.01 * number, "flatness": 1 - 0.2 * k}
        steps.append(Step(k, 1 - k / 4, (8, 8), 1, details=details))
    write_steps(load_run(folder).images[number].path, steps)


@pytest.fixture
def store(tmp_path):
    for method, spectral in (("ntk", False), ("sega", True)):
        folder = make_run(tmp_path / "runs", method, (64, 64), prompts=3, **({"amplitude": 0.15} if spectral else {}))
        record(folder, 1, spectral)
        if spectral:
            record(folder, 0, spectral)
    return tmp_path


def draw(store, *words):
    return command.main([*words, f"store={store / 'runs'}", f"out={store / 'out'}"])


def test_each_figure_has_its_command_and_a_second_call_does_nothing(store, capsys):
    for name in command.STEPS:
        assert draw(store, name) == 0
        path = store / "out" / f"{name}-tiny-64x64.png"
        assert str(path) in capsys.readouterr().out and Image.open(path).size[0] > 600
        before = path.stat().st_mtime_ns
        assert draw(store, name) == 0 and "up to date" in capsys.readouterr().out
        assert path.stat().st_mtime_ns == before


def test_a_size_may_be_a_multiple_of_the_training_side(store, capsys):
    """64 px are a third of the training side of the embedded model, 8 of its 24 tokens."""
    for size in ("0.33x", "64", "64x64"):
        assert draw(store, "spectra", f"size={size}") == 0
        assert "spectra-tiny-64x64.png" in capsys.readouterr().out
    assert draw(store, "spectra", "size=2x") == 2
    assert command.options.is_size("2x", "tiny", "384x384") and command.options.is_size("2x", "flux", "2048x2048")
    assert not command.options.is_size("2x", "pictures", "2048x2048")


def test_a_figure_is_drawn_again_when_its_records_change_and_goes_with_them(store, capsys):
    assert draw(store, "spectra") == 0
    path = store / "out" / "spectra-tiny-64x64.png"
    before = path.read_bytes()
    record(next((store / "runs").glob("tiny/ntk/64x64/*")), 1, False, start=1)
    assert draw(store, "spectra") == 0 and path.read_bytes() != before
    for rows in store.rglob("*.steps.jsonl"):
        rows.unlink()
    assert draw(store, "spectra") == 2 and not path.exists()
    assert "no image in the store has step records; python run.py" in capsys.readouterr().err


def test_the_prompt_most_methods_have_is_chosen_and_only_the_last_stage_counts(store):
    recorded = of_size(load(store / "runs"), "tiny", "64x64")
    assert [item.label for item in recorded] == ["ntk", "sega", "sega"]
    chosen = one_prompt(recorded, None, None)
    assert [(item.label, item.image.prompt_id) for item in chosen] == [("ntk", "0001"), ("sega", "0001")]
    steps = chosen[0].steps()
    assert [row["index"] for row in steps] == [0, 1, 2] and steps[0]["attention"].shape == (8, 8)
    assert [item.label for item in one_prompt(recorded, "0000", 0)] == ["sega"]
    with pytest.raises(NothingError, match="no recorded steps of this prompt and seed"):
        one_prompt(recorded, None, 7)


def test_scaling_shows_methods_with_a_spectral_part_and_the_strength_of_others(store):
    recorded = load(store / "runs")
    figure = steps.scaling(one_prompt(recorded, None, None), recorded, "caption")
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == [
        "sega: magnitude, height axis",
        "sega: magnitude, width axis",
        "sega; thin: 1 more images",
    ]
    image = panels[0].images[0].get_array()
    assert image.shape == (5, 3) and np.allclose(image[:, 0], np.linspace(1, 1.2, 5))
    lines = [line.get_ydata() for line in panels[2].lines]
    assert np.allclose(lines[0], [0, 0.2, 0.4]) and np.allclose(lines[1], [0.01, 0.21, 0.41])
    only = [item for item in recorded if item.label == "ntk"]
    with pytest.raises(NothingError, match="spectral part"):
        steps.scaling(only, only, "")


def test_attention_is_shown_where_the_query_is_and_over_even_attention(store):
    chosen = one_prompt(load(store / "runs"), None, None)
    figure = steps.attention(chosen, "")
    assert [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel() in ("ntk", "sega")] == ["ntk", "sega"]
    maps = [axis for axis in figure.axes if axis.images and axis.images[0].get_array().shape == (8, 8)]
    assert len(maps) == 6
    assert maps[2].images[0].get_array()[2, 6] == pytest.approx(np.log10(0.32 * 64), abs=1e-5)
    assert tuple(maps[0].lines[0].get_xydata()[0]) == (4, 4)
    distance = next(axis for axis in figure.axes if "distance" in axis.get_title())
    assert np.allclose(distance.lines[0].get_ydata(), [2.5, 3.0, 3.5])


def test_methods_recorded_for_different_queries_are_not_compared(store, capsys):
    record(next((store / "runs").glob("tiny/ntk/64x64/*")), 1, False, query=(1, 1))
    assert draw(store, "attention") == 2
    assert "different query= points" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["atention"], "unknown figure atention; did you mean 'attention'"),
        (["spectra", "cost=minutes"], "cost=minutes is not one of"),
        (["spectra", "prompt=0009"], "no recorded steps of prompt=0009; did you mean '0001'"),
        (["spectra", "method=segu"], "no run of method=segu"),
        (["spectra", "crop=1,2"], "crop=1,2 must be x,y,side"),
        (["spectra", "size=2xx"], "size=2xx must be N or WxH in pixels"),
        (["spectra", "seed=-1"], "seed=-1 must be a whole number of at least 0"),
    ],
)
def test_wrong_requests_get_one_line(store, words, message, capsys):
    assert draw(store, *words) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


def test_damaged_records_are_named(store, capsys):
    path = next((store / "runs").glob("tiny/ntk/64x64/*/0001-0.png"))
    rows_file(path).write_text("{half\n")
    assert draw(store, "spectra") == 2
    assert "0001-0.png are damaged" in capsys.readouterr().err
