"""The types of the configuration hold the keys that the configuration has."""

import pytest

from sega.loading.schema import GeometryConfig, ModelConfig
from sega.methods.geometry import models
from sega.run.request import compose_all
from sega.run.schema import CellConfig, PromptsConfig, TrackerConfig


@pytest.mark.parametrize("model", models())
@pytest.mark.parametrize("prompts", ["embedded", "examples", "file"])
def test_every_key_is_declared(model, prompts):
    words = [f"model={model}", f"prompts={prompts}"] + (["prompts.path=a.txt"] if prompts == "file" else [])
    (config,) = compose_all(words)[1]
    assert set(config) == set(CellConfig.__annotations__)
    assert set(config["model"]) == set(ModelConfig.__annotations__)
    assert set(config["model"]["geometry"]) == set(GeometryConfig.__annotations__)
    assert set(config["prompts"]) == set(PromptsConfig.__annotations__)


@pytest.mark.parametrize("tracker, keys", [("none", {"name"}), ("wandb", set(TrackerConfig.__annotations__))])
def test_every_key_of_a_tracker_is_declared(tracker, keys):
    (config,) = compose_all(["model=tiny", f"tracker={tracker}"])[1]
    assert set(config["tracker"]) == keys
