"""PIQE against pyiqa's."""

import numpy as np
import pytest
import torch

from eval.metrics.pixels.piqe import piqe
from sega.embedded import world


def noise(height, width):
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def render(side):
    return world.render(world.scene_for(world.prompts(5, 1)[0], 0), side, side)


def blocky():
    """Flat tiles, whose edges do not vary, under a little noise."""
    tiles = np.kron(np.random.default_rng(4).integers(40, 200, (9, 11)), np.ones((12, 12)))
    return np.repeat((tiles + np.random.default_rng(5).normal(0, 3, tiles.shape)).astype(np.uint8)[..., None], 3, 2)


PICTURES = {
    "noise": noise(96, 64),
    "sides that are no multiple of 16": noise(100, 139),
    "several strips": noise(300, 80),
    "a render": render(256),
    "blocks": blocky(),
    "a dim render": render(128) // 3,
    "flat": np.full((64, 48, 3), 90, np.uint8),
    "black": np.zeros((32, 32, 3), np.uint8),
    "one block": noise(16, 16),
}


@pytest.mark.parametrize("name", PICTURES)
def test_it_is_that_of_pyiqa(name):
    import pyiqa

    image = PICTURES[name]
    theirs = float(pyiqa.create_metric("piqe", device="cpu")(torch.from_numpy(image).permute(2, 0, 1)[None] / 255))
    if name == "black":  # 0 / 0 there
        assert np.isnan(theirs) or theirs == 100
        theirs = 100.0
    assert piqe(image) == pytest.approx(theirs, abs=0.01)
