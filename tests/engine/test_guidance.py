"""Guidance that is embedded: the transformer reads it as given, and every value makes an image of its own."""

import itertools
import json
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from method_table import METHODS
from PIL import Image
from small import PROMPT, load, made, pixels, words

from sega.methods.types import ImageRequest

SWEEP = (1.0, 2.0, 3.5)


@contextmanager
def read_by(transformer):
    """Guidance of every call, noted where the model embeds it, which it does with a thousand times its value."""
    seen = []
    hook = transformer.time_text_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1] / 1000))
    try:
        yield seen
    finally:
        hook.remove()


def differ(images):
    return all(not np.array_equal(a, b) for a, b in itertools.combinations(images, 2))


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_every_stage_hands_its_guidance_to_the_transformer(tiny_pipe, row):
    """2.25 is the guidance of no method, and exact in every dtype."""
    method, size = load(row.name, *row.quick), (192, 192) if row.staged else (192, 128)
    with read_by(tiny_pipe.transformer) as seen:
        done = made(tiny_pipe, method, size, guidance=2.25)
    stages = method.stages(ImageRequest(size, 2, 2.25))
    assert [value.tolist() for value in seen] == [[pytest.approx(stages[step.stage].guidance)] for step in done.steps]
    # Methods that name a guidance of their own for their last stage keep it; the others take the run's.
    own = {"ultraimage": 7.0, "imax": 7.0, "hiflow": 1.0, "hrdit": 1.0}
    own |= dict.fromkeys(("upsample", "scalediff", "freescale", "pixelrush"), 3.5)
    assert seen[-1].item() == pytest.approx(own.get(row.name, 2.25))


@pytest.mark.parametrize("name", ["vanilla", "sega"])
def test_a_sweep_of_guidance_with_equal_and_other_seeds(tiny_pipe, name):
    def picture(guidance, seed=0):
        return pixels(made(tiny_pipe, load(name), (192, 128), guidance=guidance, seed=seed))

    swept = {guidance: picture(guidance) for guidance in SWEEP}
    assert differ(swept.values())
    assert all(np.array_equal(picture(guidance), swept[guidance]) for guidance in SWEEP)
    assert differ([picture(2.0, seed=1), *swept.values()])


def test_a_line_sweeps_guidance_and_records_it(tiny_folder, tmp_path, monkeypatch, capsys):
    from sega.run.cli import main

    monkeypatch.setattr("sega.loading.weights.HASHES", tmp_path / "weights.json")

    def run(*more):
        line = words(tiny_folder, f"store={tmp_path / 'runs'}", "steps=2", "device=cpu", "res=128", "prompts.limit=1")
        monkeypatch.setattr(sys, "argv", ["run.py", *line, *more])
        assert main([*more, *line]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    assert run("-m", "method=sega", "guidance=1,2,3.5", "seeds=[0,1]").count("2 made") == 3
    images = {}
    for folder in (tmp_path / "runs").glob("tiny/sega/128x128/*"):
        identity = json.loads((folder / "run.json").read_text())["identity"]
        files = sorted(folder.glob("*.png"))
        images[identity["guidance"]] = [np.asarray(Image.open(file)) for file in files]
    assert sorted(images) == list(SWEEP) and differ([picture for two in images.values() for picture in two])
    assert "0 made, 2 there" in run("method=sega", "seeds=[0,1]")  # 3.5 is the model's own


@torch.no_grad()
def test_the_model_that_ships_reads_it():
    """At its own size, from equal noise: other images for other guidance, and what the caption says at 3.5."""
    from sega import load_method
    from sega.embedded import world
    from sega.embedded.model import NATIVE, PIPELINE
    from sega.embedded.scorer import load_scorer
    from sega.engine.sampling import generate
    from sega.loading.pipeline import set_theta

    method, pipe = load_method("vanilla", "tiny"), shipped(PIPELINE)
    set_theta(pipe.transformer, method.geometry.theta)
    with read_by(pipe.transformer) as seen:
        done = [
            generate(pipe, method, PROMPT, seed=0, size=(NATIVE, NATIVE), steps=8, guidance=guidance)
            for guidance in SWEEP
        ]
    assert torch.cat(seen).tolist() == pytest.approx([guidance for guidance in SWEEP for _ in range(8)])
    images = np.stack([np.asarray(image.image) for image in done])
    for a, b in itertools.combinations(images.astype(int), 2):
        assert abs(a - b).mean() > 2  # of 255
    found = load_scorer().attribute_probabilities(torch.from_numpy(images[2:]).permute(0, 3, 1, 2))
    said = world.parse_caption(PROMPT)
    right = [world.ATTRIBUTES[name][int(found[name][0].argmax())] == said[name] for name in world.SCORED]
    assert sum(right) >= 5  # of six


def shipped(folder):
    from diffusers import FluxPipeline

    pipe = FluxPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe
