"""What tests need of the small random FLUX of `sega.testing`: `words` for lines of run.py, `load` for its methods."""

import sys

import numpy as np

from sega.engine.sampling import generate
from sega.home import CONF
from sega.methods.base import Method
from sega.methods.registry import build_method
from sega.testing.checks import PROMPT
from sega.testing.flux import SIDE, SMALL, small_geometry
from sega.testing.flux import build_pipeline as build

__all__ = ["CONF", "GEOMETRY", "PROMPT", "SIDE", "SMALL", "VANILLA", "build", "load", "made", "pixels", "run", "words"]

GEOMETRY = small_geometry()
VANILLA = Method(GEOMETRY)


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
    from eval.hooks import HOOKS
    from sega.run.cli import main

    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    status = main(list(words), HOOKS)
    out, err = capsys.readouterr()
    return status, out, err
