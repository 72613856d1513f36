"""The blocks of docs/recipes.md run, and the words it translates other settings into are accepted."""

import re
from pathlib import Path

import pytest

from sega.loading.methods import load_method
from sega.run.request import compose_all

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ROWS = [[cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\|.*\|$", PAGE, re.MULTILINE)]


@pytest.mark.slow
def test_the_blocks_run_one_after_the_other():
    names, images = {}, []
    for block in BLOCKS:
        exec(block.replace("steps=20", "steps=2").replace('"hiflow", pipe', '"hiflow", pipe, ["base_steps=4"]'), names)
        images.append(names["image"])
    assert len(images) == 3 and all(image.size == (384, 384) for image in images)


@pytest.mark.parametrize("words", [cell for _, cell, *_ in ROWS if cell.startswith("`method=")])
def test_a_method_that_is_named_is_one(words):
    for line in re.findall("`(method=[^`]*)`", words):
        (config,) = compose_all(["model=flux", *line.split()])[1]
        assert config["method"]["name"]


@pytest.mark.parametrize("name", ["amplitude", "gain", "floor", "spread_min", "spread_max", "gamma", "m_ref", "kappa"])
def test_the_keys_of_sega_are_keys(name):
    assert f"`method.{name}" in PAGE and hasattr(load_method("sega"), name)


def test_the_models_are_models():
    (words,) = [cell for key, cell, *_ in ROWS if key == "`model_type`"]
    for name in re.findall("`(?:model=)?([a-z0-9]+)`", words):
        assert compose_all([f"model={name}"])[1][0]["model"]["name"] == name
