"""PixelRush: its arithmetic, the method on a model that can be written down, then on small random pipelines."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from small import GEOMETRY, load, made, pixels

from baselines import pixelrush
from baselines.kernels.tiled import gaussian
from baselines.kernels.windows import Box
from baselines.pixelrush import Mosaic
from sega import load_method
from sega.errors import RequestError
from sega.formulas.filters import bicubic
from sega.methods.registry import build_method
from sega.methods.staged import FromBase
from sega.methods.types import ImageRequest, Point, Stage

QUICK = ["base_steps=2"]


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_default_sigmas_are_those_of_sdxl():
    """sigma/(1 - sigma) of a flow is the ratio of noise to signal that SDXL's schedule has at a step."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    signal = (1 - betas).cumprod(0)
    ratio = ((1 - signal) / signal).sqrt()
    sigmas = [round(float(value / (1 + value)), 3) for value in ratio[[499, 749, 999]]]
    assert sigmas == [0.617, 0.803, 0.936]  # of the paper's ablation, in docs/staged.md
    method = load_method("pixelrush")
    assert method.sigma == pytest.approx(float(ratio[249] / (1 + ratio[249])), abs=5e-4)
    assert method.inversion_sigma == pytest.approx(float(ratio[0] / (1 + ratio[0])), abs=5e-4)


@pytest.mark.parametrize(
    ("length", "patch", "overlap", "expected"),
    [
        (128, 64, 0.5, [0, 32, 64]),
        (256, 64, 0.5, [0, 32, 64, 96, 128, 160, 192]),
        (100, 64, 0.5, [0, 32, 36]),  # the last one flush with the end
        (64, 64, 0.5, [0]),
        (128, 64, 0.0, [0, 64]),
        (130, 64, 0.0, [0, 64, 66]),
        (10, 4, 0.9, [0, 1, 2, 3, 4, 5, 6]),
        (7, 3, 0.5, [0, 2, 4]),  # 1.5 tokens are 2
    ],
)
def test_starts_of_patches(length, patch, overlap, expected):
    assert pixelrush.starts(length, patch, overlap) == expected


@pytest.mark.parametrize("grid", [(24, 24), (17, 40), (5, 30), (8, 8), (9, 8)])
@pytest.mark.parametrize("overlap", [0, 0.3, 0.5, 0.9])
def test_patches_cover_a_grid(grid, overlap):
    seen = torch.zeros(2 * grid[0], 2 * grid[1])
    found = pixelrush.patches(grid, 8, overlap)
    for patch in found:
        assert (patch.height, patch.width) == tuple(min(8, side) for side in grid)
        patch.of_latent(seen).add_(1)
        assert patch.of_latent(seen).shape == (2 * patch.height, 2 * patch.width)
    assert seen.min() >= 1 and len(set(found)) == len(found)


def test_feather():
    weights = gaussian((10, 15), 0.2)
    assert weights.shape == (10, 15) and weights.argmax() in (4 * 15 + 7, 5 * 15 + 7)
    assert weights.equal(weights.flip(0)) and weights.equal(weights.flip(1)) and weights.min() > 0
    one = weights[4] / weights[4, 7]
    torch.testing.assert_close(one[10], torch.tensor(-0.5).exp())  # three cells are 0.2 of 15
    assert gaussian((3, 3), 100).min() > 0.999


def test_slerp():
    a, b = random(2, 4, 6, 5), random(2, 4, 6, 5, seed=1)
    assert pixelrush.slerp(a, b, 1).equal(a) and pixelrush.slerp(a, b, 0).equal(b)
    b = b * a.flatten(1).norm(dim=1).view(2, 1, 1, 1) / b.flatten(1).norm(dim=1).view(2, 1, 1, 1)
    mixed = pixelrush.slerp(a, b, 0.95)
    torch.testing.assert_close(mixed.flatten(1).norm(dim=1), a.flatten(1).norm(dim=1))

    def angle(x, y):
        return torch.cosine_similarity(x.flatten(1).double(), y.flatten(1).double()).acos()

    torch.testing.assert_close(angle(a, mixed), 0.05 * angle(a, b), rtol=1e-4, atol=0)
    torch.testing.assert_close(angle(b, mixed), 0.95 * angle(a, b), rtol=1e-4, atol=0)
    single = pixelrush.slerp(a[1:], b[1:], 0.95)
    torch.testing.assert_close(mixed[1:], single)


@pytest.mark.parametrize("factor", [1.0, 3.0, -1.0])
def test_collinear_vectors_are_mixed_on_a_line(factor):
    a = random(1, 4, 6, 5)
    torch.testing.assert_close(pixelrush.slerp(a, factor * a, 0.8), (0.8 + 0.2 * factor) * a)


def test_an_inversion_ends_at_the_noise():
    x, velocity = random(1, 4, 6, 6), random(1, 4, 6, 6, seed=1)
    point = Point(x, velocity, 0.028, 0.0, 0, 1, 1)
    torch.testing.assert_close(x - 0.028 * pixelrush.inverted(point), x + (1 - 0.028) * velocity)


@pytest.mark.parametrize("weight", [0.95, 0.3, 1.0])
def test_injection(weight):
    class Fresh:
        random = staticmethod(lambda shape: random(*shape, seed=2))

    x, velocity, sigma = random(1, 4, 6, 6), random(1, 4, 6, 6, seed=1), 0.4
    out = pixelrush.Injection(weight, Fresh)(Point(x, velocity, sigma, 0.0, 0, 1, 1))
    noise = pixelrush.slerp(x + (1 - sigma) * velocity, random(1, 4, 6, 6, seed=2), weight)
    torch.testing.assert_close(x - sigma * out, (x - sigma * noise) / (1 - sigma))
    if weight == 1:
        torch.testing.assert_close(out, velocity)


@pytest.mark.parametrize("share", [0.05, 0.2, 100])
def test_equal_patches_add_up_to_themselves(share):
    mosaic = Mosaic(*torch.zeros(2, 1, 3, 34, 40), share)
    for patch in pixelrush.patches((17, 20), 8, 0.5):
        mosaic.add(patch, torch.full((1, 3, 16, 16), 0.7))
    torch.testing.assert_close(mosaic.latent(), torch.full((1, 3, 34, 40), 0.7))


def test_the_weighted_sum_of_patches():
    mosaic, weights = Mosaic(*torch.zeros(2, 1, 2, 16, 24), 0.2), gaussian((16, 16), 0.2)
    left, right = random(1, 2, 16, 16), random(1, 2, 16, 16, seed=1)
    mosaic.add(Box(0, 0, 8, 8), left)
    mosaic.add(Box(0, 4, 8, 8), right.half())
    out = mosaic.latent()
    torch.testing.assert_close(out[..., :8], left[..., :8])
    torch.testing.assert_close(out[..., 16:], right.half().float()[..., 8:])
    a, b = weights[:, 8:], weights[:, :8]
    expected = (a * left[..., 8:] + b * right.half().float()[..., :8]) / (a + b)
    torch.testing.assert_close(out[..., 8:16], expected)


# The method on a model that can be written down: v = a x + b sigma, each value by itself.

A, B = 0.7, -0.4


def velocity(x, sigma):
    return A * x + B * sigma


class Toy:
    """A generation without an engine; an image is its latent, one pixel a cell."""

    device = torch.device("cpu")

    def __init__(self, method, size):
        self.request = ImageRequest(size, 4, 1.0)
        self.stages, self.generator = method.stages(self.request), torch.Generator().manual_seed(3)
        self.latent = self.state = None

    def noise(self, size):
        return random(1, 3, size[1], size[0], seed=size[0])

    def random(self, shape):
        return torch.randn(shape, generator=self.generator)

    def decode(self, latent):
        return latent

    def encode(self, image, sample=False):
        return image


def through(method, size):
    """The image of a size by the stages of a method, each in Euler steps; the base is the noise of its size."""
    toy = Toy(method, size)
    toy.latent = toy.noise(toy.stages[0].size)
    for index, stage in enumerate(toy.stages[1:], 1):
        x, flow = method.begin(index, toy), method.flow(index, toy)
        assert x.shape[-2:] == (stage.size[1], stage.size[0])
        for step, (sigma, after) in enumerate(itertools.pairwise([*stage.schedule, 0.0])):
            point = Point(x, velocity(x, sigma), sigma, after, step, stage.taken, index)
            x = x + (after - sigma) * (flow(point) if flow else point.velocity)
        toy.latent = x
    return method.finish(toy)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (64, 40), (26, 30)])
@pytest.mark.parametrize("inversion", ["noise", "velocity"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_model_without_context_knows_no_patches(size, inversion, steps):
    """Every value by itself, so that the image is that of one pass over the whole latent, whatever the patches are."""
    geometry = replace(GEOMETRY, token_pixels=2, train_tokens=8)
    options = {"inversion": inversion, "steps": steps, "prediction_weight": 1.0, "sigma": 0.4}
    method = build_method({"name": "pixelrush", **options}, geometry)
    base, *larger = method.sizes(ImageRequest(size, 4, 1.0))
    latent = Toy(method, size).noise(base)
    for width, height in larger:
        clean = bicubic(latent, (height, width), antialias=True)
        early = method.inversion_sigma
        seen = clean + (1 - early) * velocity(clean, early)
        noise = seen if inversion == "velocity" else Toy(method, size).noise((width, height))
        x = 0.6 * clean + 0.4 * noise
        for k in range(steps):
            x = x - 0.4 / steps * velocity(x, 0.4 * (steps - k) / steps)
        latent = x
    assert larger and latent.shape[-2:] == (size[1], size[0])
    torch.testing.assert_close(through(method, size), latent, rtol=1e-4, atol=1e-5)


def test_an_injected_image_differs_by_the_injected_noise():
    """One patch over everything: z = (x - s e)/(1 - s) with the mixed noise, written out."""
    geometry = replace(GEOMETRY, token_pixels=2, train_tokens=8)
    method = build_method({"name": "pixelrush", "patch": 16, "sigma": 0.4}, geometry)
    toy = Toy(method, (32, 32))
    x = 0.6 * bicubic(toy.noise((16, 16)), (32, 32), antialias=True) + 0.4 * toy.noise((32, 32))
    noise = pixelrush.slerp(x + 0.6 * velocity(x, 0.4), toy.random((1, 3, 32, 32)), 0.95)
    torch.testing.assert_close(through(method, (32, 32)), (x - 0.4 * noise) / 0.6, rtol=1e-4, atol=1e-5)


# On pipelines.


def image(pipe, *overrides, size=(256, 256), **options):
    return made(pipe, load("pixelrush", *QUICK, *overrides), size, **options)


@dataclass(frozen=True)
class ImageToImage(FromBase):
    """The base, enlarged and noised, then one step of the plain model at the target."""

    def stages(self, request):
        half = (request.size[0] // 2, request.size[1] // 2)
        return [self.base_stage(half), Stage(request.size, 1, 3.5, (0.409,))]

    def begin(self, index, generation):
        width, height = generation.request.size
        clean = generation.encode(bicubic(generation.decode(generation.latent), (height, width), antialias=True))
        return (1 - 0.409) * clean + 0.409 * generation.noise((width, height))


def test_one_patch_without_injection_is_one_step_of_image_to_image(tiny_pipe):
    plain = pixels(made(tiny_pipe, ImageToImage(GEOMETRY, base_steps=2), (256, 256))).astype(int)
    ours = image(tiny_pipe, "patch=32", "overlap=0", "prediction_weight=1")
    assert [step.grid for step in ours.steps] == [(16, 16)] * 2 + [(32, 32)]
    assert abs(pixels(ours) - plain).max() <= 1
    assert abs(pixels(image(tiny_pipe, "patch=32", "overlap=0")) - plain).max() > 1


def test_flux_stages():
    method = load_method("pixelrush", "flux")
    base, *rest = method.stages(ImageRequest((4096, 4096), 28, 4.5))
    assert base == load_method("upsample", "flux").stages(ImageRequest((4096, 4096), 28, 4.5))[0]
    assert len(rest) == 9 + 49 and set(rest) == {Stage((1024, 1024), 1, 3.5, (0.409,))}
    wide = method.stages(ImageRequest((4096, 1024), 28, 4.5))
    assert [stage.size for stage in wide] == [(2048, 512), *[(1024, 1024)] * 7]
    for size in ((1024, 1024), (512, 768), (1280, 1280)):
        (only,) = method.stages(ImageRequest(size, 28, 4.5))
        assert only.plain and only.size == size
    velocity = load_method("pixelrush", "flux", ["inversion=velocity", "steps=2"])
    _, first, second, *more = velocity.stages(ImageRequest((2048, 2048), 28, 4.5))
    assert (first.guidance, first.schedule, second.schedule) == (1.0, (0.028,), (0.409, 0.2045))
    assert len(more) == 2 * 9 - 2 and velocity.decoded_size(ImageRequest((2048, 2048), 28, 4.5)) == (2048, 2048)


def test_an_image_depends_on_its_seed_alone(tiny_pipe):
    first = image(tiny_pipe)
    torch.manual_seed(2)
    assert np.array_equal(pixels(image(tiny_pipe)), pixels(first))
    assert not np.array_equal(pixels(image(tiny_pipe, seed=1)), pixels(first))
    assert first.calls == 2 + 9 and first.image.size == (256, 256)


@pytest.mark.parametrize(
    "override",
    [
        "sigma=0.2",
        "steps=2",
        "guidance=1",
        "inversion=velocity",
        "prediction_weight=1",
        "prediction_weight=0.05",
        "patch=12",
        "overlap=0.25",
        "feather=1",
    ],
)
def test_options_change_the_image(tiny_pipe, override):
    assert not np.array_equal(pixels(image(tiny_pipe, override)), pixels(image(tiny_pipe)))


def test_options_of_the_inversion_change_the_image(tiny_pipe):
    usual = image(tiny_pipe, "inversion=velocity")
    assert [step.sigma for step in usual.steps[2:4]] == pytest.approx([0.028, 0.409], abs=1e-3) and usual.calls == 20
    for override in ("inversion_sigma=0.1", "inversion_guidance=3.5"):
        assert not np.array_equal(pixels(image(tiny_pipe, "inversion=velocity", override)), pixels(usual))


@pytest.mark.parametrize("inversion", ["noise", "velocity"])
@pytest.mark.parametrize("family", ["flux", "qwen"])
def test_sigmas_are_exact_on_every_model(family, inversion):
    """Whatever shift and stretch the scheduler of a model has."""
    from sega.engine.sampling import generate
    from sega.testing.checks import small_pipeline

    small = small_pipeline(family)
    method = build_method({"name": "pixelrush", "base_steps": 2, "inversion": inversion}, small.geometry)
    side = 2 * small.native[0]
    done = generate(small.pipe, method, "a red boat", size=(side, side), steps=2, guidance=3.5, negative_prompt=" ")
    taken = {step.sigma for step in done.steps if step.stage}
    expected = {0.409} if inversion == "noise" else {0.028, 0.409}
    assert sorted(taken) == pytest.approx(sorted(expected), abs=1e-3)
    assert {step.grid for step in done.steps} == {(small.geometry.train_tokens,) * 2}
    if family == "qwen":  # guidance is true here: a second call where it is above 1
        branches = {(round(step.sigma, 3), step.branch) for step in done.steps if step.stage}
        assert (0.409, "uncond") in branches and (0.028, "uncond") not in branches


def test_qwen_has_a_stretch_that_is_left_out():
    from sega.testing.checks import small_pipeline

    config = small_pipeline("qwen").pipe.scheduler.config
    assert config.shift_terminal and config.use_dynamic_shifting


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sigma=1", "between 0.001 and 0.99"),
        ("steps=0", "whole number"),
        ("inversion=ddim", "not allowed"),
        ("prediction_weight=1.5", "between 0 and 1"),
        ("overlap=1", "between 0 and 0.9"),
        ("feather=0", "between 0.01"),
        ("patch=0", "whole number"),
    ],
)
def test_bad_values_are_named(override, words):
    with pytest.raises(RequestError, match=words):
        load_method("pixelrush", "flux", [override])
