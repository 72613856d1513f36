"""The model card is written from records; a rate measured on a CPU is not passed off as a finished training."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sega.embedded import world
from sega.embedded.model import NATIVE, WEIGHTS
from sega.embedded.training import record
from sega.embedded.training.command import MINUTES
from sega.errors import RequestError

SCRIPTS = Path(__file__).parents[2] / "scripts"
CPU = {
    "generator": {
        "steps": 30,
        "pictures": 1200,
        "seconds": 400,
        "busy_seconds": 200,
        "threads": 1,
        "tokens_a_step": 24_000,
        "loss": 1.5,
        "distinct": 1024,
        "device": "cpu",
        "started_from": None,
    }
}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module
    for name in ("embedded_card", "embedded_measure"):
        sys.modules.pop(name, None)


@pytest.fixture
def run(tmp_path):
    """A run of 24 renders at the native size, in the layout of a store."""
    folder, texts = tmp_path / "run", world.prompts(11, 24)
    folder.mkdir()
    for i, text in enumerate(texts):
        Image.fromarray(world.render(world.scene_for(text, i), NATIVE, NATIVE)).save(folder / f"{i:02d}.png")
    rows = [json.dumps({"file": f"{i:02d}.png", "prompt": text}) for i, text in enumerate(texts)]
    (folder / "images.jsonl").write_text("\n".join(rows))
    (folder / "run.json").write_text(json.dumps({"hash": "abc", "config": {"model": {"dtype": "float32"}}}))
    return folder


def measured():
    values = dict.fromkeys([*world.SCORED, "mean"], 0.75)
    attributes = dict.fromkeys(world.ATTRIBUTES, 0.625)
    model = {
        "run": "abc",
        "dtype": "float32",
        "side": NATIVE,
        "images": 24,
        "generated": values,
        "rendered": values,
        "fid": 1.5,
        "fid_of_renders": 0.25,
    }
    scorer = {
        "renders": 1000,
        "small_below": 0.18,
        "small_renders": {"192": 250},
        "all": {"192": attributes},
        "small": {"192": attributes},
    }
    return {"model": model, "scorer": scorer, "autoencoder": {"renders": 16, "psnr_db": {"192": 33.25}}}


def test_the_records_of_the_weights_have_the_shape_that_training_writes():
    found = record.read(WEIGHTS)
    assert tuple(found) == record.PARTS
    for part in found.values():
        assert {"steps", "seconds", "curve", "device", "torch", "started_from"} <= set(part)
    assert found["generator"]["guidance"] == [1, 1] and found["distillation"]["guidance"] == [1, 4.5]
    assert found["generator"]["started_from"]["modules"] == ["text_encoder_2", "text_encoder"]


def test_the_card_quotes_its_records_and_says_what_is_missing(script, run, tmp_path):
    card = script("embedded_card")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(RequestError, match="lacks autoencoder, model, scorer: run scripts/embedded_measure.py"):
        card.card(run, out)
    (out / "card.json").write_text(json.dumps(measured()))
    card.card(run, out)
    text = (out / "README.md").read_text()
    for said in (
        "| mean | 0.750 |",
        "**1.500**; two sets of renders 0.250",
        "33.2 dB at 192 px",
        "| colour | 0.625 | 0.625 |",
    ):
        assert said in text, said
    assert "What a CPU gives" not in text
    (out / "cpu-training.json").write_text(json.dumps(CPU))
    card.card(run, out)
    assert "**6.0 images for each second of processor time**" in (out / "README.md").read_text()
    assert Image.open(out / "samples.png").size == (8 * NATIVE, 6 * NATIVE)


def test_a_cpu_rate_is_read_against_the_curve_and_a_whole_run_replaces_it(script):
    card = script("embedded_card")
    reference = {
        "device": "GPU",
        "steps": 100,
        "pictures": 100_000,
        "curve": [[25, 1.0], [50, 0.5], [100, 0.25]],
        "tokens_a_step": 115_000,
        "loss": 0.25,
    }
    assert card.loss_after(reference, 37_500) == pytest.approx(0.75)
    said = " ".join(card.cpu_section(CPU, reference).split())
    assert (
        "Nobody has trained this model on a CPU to the end" in said
        and f"about {60 * MINUTES['cpu']['generator'] * 6:,.0f}" in said
    )
    whole = {"generator": CPU["generator"] | {"seconds": 60 * MINUTES["cpu"]["generator"]}}
    assert "Nobody" not in card.cpu_section(whole, reference)


def test_measuring_a_run_compares_it_with_renders_of_its_captions(script, run):
    found = script("embedded_measure").measure_model(run)
    assert found["images"] == 24 and found["side"] == NATIVE
    assert found["generated"]["mean"] > 0.9 and found["rendered"]["mean"] > 0.9
    assert 0 < found["fid_of_renders"] < 5 and 0 < found["fid"] < 5


def test_the_second_model_is_described_by_its_records(script, tmp_path):
    card = script("embedded_card")
    assert card.second_section(tmp_path) == ""
    run = CPU["generator"] | {"device": "a GPU", "seed": 2, "theta": 10000.0, "precision": "halves"}
    for part, guidance in (("generator", [1.0, 1.0]), ("distillation", [1.0, 4.5])):
        record.write(tmp_path, part, run | {"guidance": guidance})
    text = card.second_section(tmp_path)
    for said in ("seed 2", "rotary base is 10000", "1,200 images", "on a GPU", "in halves", "guidance 1 to 4.5"):
        assert said in text


def test_a_run_of_another_size_is_refused(script, run):
    for path in run.glob("*.png"):
        Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(path)
    with pytest.raises(RequestError, match="96 px; the card describes the native 192 px"):
        script("embedded_measure").measure_model(run)
