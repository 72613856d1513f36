"""The small model of the tests: the embedded model's architecture with random weights and a training side of 128 px.

Half the heads and fewer tokens than the model that ships, so images of four and sixteen times its size stay cheap. Its
size stands here alone: `GEOMETRY` for methods made in Python, `words` for lines of run.py, `build` for the weights.
"""

import sys
from dataclasses import replace

import numpy as np

from sega.engine.sampling import generate
from sega.methods.base import Method
from sega.methods.geometry import CONF, load_geometry
from sega.methods.registry import build_method

PROMPT = "a red striped ball on the left standing on grass under a cloudy sky with light from the right"
SIDE = 16
SMALL = {"theta": 100, "train_tokens": SIDE, "sega_train_tokens": SIDE}
GEOMETRY = replace(load_geometry("tiny"), **SMALL)
VANILLA = Method(GEOMETRY)


def build(heads=2, **blocks):
    """A random FluxPipeline; `blocks` are its numbers of `double` and `single` blocks."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    from sega.embedded import model
    from sega.loading.pipeline import set_theta

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        t5, clip = model.build_text_encoders()
        transformer, vae = model.build_transformer(heads=heads, **blocks), model.build_autoencoder()
        # A fresh transformer says next to nothing; give it something to say.
        for parameter in transformer.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    set_theta(transformer, GEOMETRY.theta)
    pipe = model.assemble(*(part.eval() for part in (transformer, vae, t5, clip)))
    # The shift meets its upper value at the training side, as it does in the published models.
    tokens = {"base_image_seq_len": (SIDE // 4) ** 2, "max_image_seq_len": SIDE**2}
    pipe.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, **tokens)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def words(folder, *more):
    """Words of a line of run.py on the pipeline of `build` in a folder."""
    geometry = [f"model.geometry.{key}={value}" for key, value in SMALL.items()]
    return ["model=tiny", f"model.path={folder}", f"model.native={8 * SIDE}", *geometry, *more]


def load(name, *overrides):
    """A method as `load_method` gives it, for the geometry of the small model."""
    from omegaconf import OmegaConf

    config = OmegaConf.load(CONF / "method" / f"{name}.yaml")
    return build_method(OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides))), GEOMETRY)


def made(pipe, method, size=(128, 128), steps=2, **options):
    """`PROMPT` by `method` from seed 0 at guidance 1, unless `options` say otherwise."""
    options = {"prompt": PROMPT, "seed": 0, "guidance": 1.0} | options
    return generate(pipe, method, size=size, steps=steps, **options)


def pixels(generated):
    return np.asarray(generated.image)


def run(monkeypatch, capsys, *words):
    """Exit status, stdout, stderr of a line."""
    from eval.protocols import check_values
    from sega.run.cli import main

    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    status = main(list(words), check_values)
    out, err = capsys.readouterr()
    return status, out, err
