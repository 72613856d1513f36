"""Latents and images that are no image, by themselves and out of a model."""

import pytest
import torch
from PIL import Image
from small import VANILLA

from sega.engine.checks import check_image, check_latent
from sega.engine.sampling import generate
from sega.errors import FailedImageError

SOUND = torch.linspace(-2, 2, 4 * 6 * 6).view(1, 4, 6, 6)


def spoilt(value):
    latent = SOUND.clone()
    latent[0, 0, :3] = value
    return latent


@pytest.mark.parametrize(
    "latent, words",
    [
        (spoilt(float("nan")), r"after stage 1 of 1 is not finite \(12\.5% of its values\)"),
        (spoilt(float("inf")), r"not finite \(12\.5%"),
        (spoilt(-float("inf")).bfloat16(), r"not finite \(12\.5%"),
        (torch.full_like(SOUND, 0.25), "is 0.25 everywhere"),
    ],
)
def test_latents_that_are_none(latent, words):
    with pytest.raises(FailedImageError, match=words):
        check_latent(latent, "after stage 1 of 1")


def test_sound_ones_pass():
    check_latent(SOUND, "at the end")
    check_image(Image.linear_gradient("L"))
    one_band = [Image.new("L", (256, 256)), Image.linear_gradient("L"), Image.new("L", (256, 256), 9)]
    check_image(Image.merge("RGB", one_band))


@pytest.mark.parametrize(
    "image, words",
    [
        (Image.new("RGB", (8, 8)), "the image is black"),
        (Image.new("L", (8, 8)), "the image is black"),
        (Image.new("RGB", (8, 8), (3, 4, 5)), r"the image is \(3, 4, 5\) everywhere"),
    ],
)
def test_images_of_one_colour(image, words):
    with pytest.raises(FailedImageError, match=words):
        check_image(image)


def test_a_model_that_gives_nan(tiny_pipe, monkeypatch):
    bias = tiny_pipe.transformer.proj_out.bias
    monkeypatch.setattr(bias, "data", torch.full_like(bias, float("nan")))
    with pytest.raises(FailedImageError, match="after stage 1 of 1 is not finite"):
        generate(tiny_pipe, VANILLA, "a red ball", size=(128, 128), steps=2)


def test_an_autoencoder_that_decodes_to_nothing(tiny_pipe, monkeypatch):
    nothing = torch.full((1, 3, 128, 128), float("nan"))
    monkeypatch.setattr(tiny_pipe.vae, "decode", lambda latent, **options: (nothing,))
    with pytest.raises(FailedImageError, match="the image is black"):
        generate(tiny_pipe, VANILLA, "a red ball", size=(128, 128), steps=2)
