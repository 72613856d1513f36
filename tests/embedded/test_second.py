"""The second small model, `model=tiny2`: the first but for its seed and its rotary base."""

import json
import shutil

import numpy as np
import pytest
import torch

from sega import RequestError, load_method, load_pipeline
from sega.embedded.model import WEIGHTS
from sega.embedded.training import record
from sega.loading import known

SECOND = WEIGHTS / "second"
PROMPT = "a red striped ball on the left standing on grass under a cloudy sky with light from the right"


@pytest.fixture
def second():
    """The folder of its weights."""
    if not SECOND.is_dir():
        pytest.skip("the second model is not trained yet: there is no sega/embedded/weights/second")
    return SECOND


def test_it_differs_from_the_first_in_names_and_rotary_base_alone():
    one, two = (known.model_config(name) for name in ("tiny", "tiny2"))
    assert {key for key in one if one[key] != two[key]} == {"name", "id", "path", "geometry"}
    assert two["geometry"] == one["geometry"] | {"theta": 10000}
    assert two["path"] == "sega/embedded/weights/second/pipeline"


def test_its_runs_are_of_an_embedded_model(tmp_path):
    from eval.records.runs import Run

    for name in ("tiny", "tiny2", "flux"):
        about = {"model": {"id": known.model_config(name)["id"]}}
        assert Run(tmp_path, name, "ntk", 64, 64, "h", about, {}, []).is_embedded == (name != "flux")


def test_its_folder_is_not_taken_for_the_first_model(tiny_folder, tmp_path, monkeypatch):
    """Class and axes are the same; the rotary base is not written in a diffusers folder."""
    monkeypatch.setattr(known, "HERE", tmp_path)
    folders = {name: tmp_path / str(known.model_config(name)["path"]) for name in ("tiny", "tiny2")}
    for name, folder in folders.items():
        shutil.copytree(tiny_folder, folder)
        assert known.model_config(folder)["name"] == name
        assert known.model_config(folder)["path"] == str(folder)
    assert known.geometry_of(folders["tiny2"]).theta == 10000
    assert known.model_config(tiny_folder)["name"] == "tiny"


def test_without_its_weights_the_way_to_them_is_said(tmp_path):
    with pytest.raises(RequestError, match="sega.embedded.training --help.*model.path") as error:
        load_pipeline("tiny2", path=str(tmp_path / "none"))
    assert "\n" not in str(error.value)


def test_its_record_says_how_it_was_trained(second):
    found = record.read(second)
    assert list(found) == ["generator", "distillation"]
    for part in found.values():
        assert part["theta"] == 10000 and part["seed"] != 1 and part["steps"] > 100 and part["curve"]
    assert found["generator"]["started_from"]["modules"] == ["text_encoder_2", "text_encoder"]


def test_it_is_small_and_of_stock_classes(second):
    files = [path for path in second.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 16_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json"}
    assert json.loads((second / "pipeline" / "model_index.json").read_text())["_class_name"] == "FluxPipeline"


def test_it_loads_by_diffusers_alone(second):
    """Stock FLUX positions have its rotary base, so no loader of this project is needed."""
    from diffusers import FluxPipeline

    stock = FluxPipeline.from_pretrained(second / "pipeline", torch_dtype=torch.float32, local_files_only=True)
    ours = load_pipeline("tiny2", "cpu")
    assert load_method("ntk", ours) == load_method("ntk", "tiny2")
    options = {"num_inference_steps": 2, "guidance_scale": 3.5, "max_sequence_length": 24, "output_type": "latent"}
    latents = []
    for pipe in (stock, ours):
        pipe.set_progress_bar_config(disable=True)
        noise = torch.Generator().manual_seed(0)
        latents.append(pipe(PROMPT, height=192, width=192, generator=noise, **options).images)
    assert torch.equal(*latents)


def test_it_draws_what_captions_say(second):
    from sega import generate
    from sega.embedded import world
    from sega.embedded.scorer import load_scorer

    pipe, method, scorer = load_pipeline("tiny2", "cpu"), load_method("vanilla", "tiny2"), load_scorer()
    right = []
    for text in world.prompts(12, 4):
        image = torch.from_numpy(np.array(generate(pipe, method, text).image)).permute(2, 0, 1)
        found = scorer.attribute_probabilities(image[None])
        said = world.parse_caption(text)
        right += [world.ATTRIBUTES[name][int(found[name].argmax())] == said[name] for name in world.SCORED]
    assert sum(right) >= 0.8 * len(right)
