"""What tests of single images on a small pipeline share."""

import numpy as np

from sega import load_method
from sega.method import Method
from sega.sampling import generate

PROMPT = "a red striped ball on the left standing on grass under a cloudy sky with light from the right"
GEOMETRY = load_method("vanilla", "tiny").geometry
VANILLA = Method(GEOMETRY)


def made(pipe, method, size=(128, 128), steps=2, **options):
    """`PROMPT` by `method` from seed 0."""
    return generate(pipe, method, PROMPT, 0, size, steps, guidance=1.0, **options)


def pixels(generated):
    return np.asarray(generated.image)
