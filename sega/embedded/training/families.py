"""Families of scenes that differ in a few attributes: what the scorer learns to tell apart."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from sega.embedded import world
from sega.embedded.scorer import INPUT

FAMILY = 8
SIZES = (144, 192, 192, 256, 384)
"""Sides of the renders in px."""


def family(rng: np.random.Generator) -> list[world.Scene]:
    """FAMILY scenes whose captions differ from the first in each attribute with a chance of 0.3."""
    first = world.sample_scene(rng)
    rest = []
    for _ in range(FAMILY - 1):
        keep = {k: v for k, v in first.said.items() if rng.random() > 0.3}
        rest.append(world.sample_scene(rng, keep))
    return [first, *rest]


def render_family(rng: np.random.Generator) -> list[tuple[world.Scene, np.ndarray]]:
    """The scenes of a family and their renders, uint8 [INPUT, INPUT, 3]: made at random SIZES and brought to INPUT."""
    pairs = []
    for scene in family(rng):
        side = int(rng.choice(SIZES))
        image = world.render(scene, side, side)
        if side != INPUT:
            x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
            x = F.interpolate(x, (INPUT, INPUT), mode="bicubic", antialias=True).round().clamp(0, 255).byte()
            image = x[0].permute(1, 2, 0).numpy()
        pairs.append((scene, image))
    return pairs
