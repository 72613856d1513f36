"""Generation: noise, times, packing, sizes."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from small import GEOMETRY, PROMPT, VANILLA, load, made, pixels

from sega.engine.generation import ImageGeneration, seeded
from sega.engine.noise import noise_seed
from sega.engine.timeshift import stage_sigmas
from sega.errors import RequestError
from sega.methods.base import Method
from sega.methods.sizes import check_size
from sega.methods.types import ImageRequest, Point, Stage, align
from sega.models.flux import FluxAdapter
from sega.models.row_ids import image_ids


def test_noise_depends_on_seed_prompt_and_size_alone():
    assert noise_seed(0, "a ball", (256, 128)) == 8965263561148206301
    others = [(1, "a ball", (256, 128)), (0, "a box", (256, 128)), (0, "a ball", (128, 256)), (0, "a ball", (256, 256))]
    seeds = {noise_seed(*other) for other in others} | {noise_seed(0, "a ball", (256, 128), "method")}
    assert len(seeds) == 5 and noise_seed(0, "a ball", (256, 128)) not in seeds
    # No part can run into its neighbour.
    assert noise_seed(1, "2", (8, 8)) != noise_seed(12, "", (8, 8))


def test_every_method_starts_from_the_same_noise(tiny_pipe):
    starts = []

    @dataclass(frozen=True)
    class Watch(Method):
        def begin(self, index, run):
            starts.append(super().begin(index, run))
            return starts[-1]

    made(tiny_pipe, Watch(GEOMETRY), (64, 128))
    made(tiny_pipe, Watch(GEOMETRY, schedule="stock"), (64, 128), steps=1, guidance=3.0)
    assert starts[0].equal(starts[1]) and starts[0].shape == (1, 8, 32, 16) and starts[0].dtype == torch.float32
    assert starts[0].equal(torch.randn(1, 8, 32, 16, generator=seeded(0, PROMPT, (64, 128))))


def test_each_step_of_each_stage_is_told(tiny_pipe):
    """After it is taken; guidance that takes two calls is one step, and a stage that was there is not told."""
    told = []
    made(tiny_pipe, VANILLA, (64, 64), steps=3, on_step=lambda *step: told.append(step))
    assert told == [(0, 1), (0, 2), (0, 3)]
    told.clear()
    hiflow = load("hiflow", "base_steps=3", "steps=[2]")
    hiflow = replace(hiflow, geometry=replace(GEOMETRY, train_tokens=8, sega_train_tokens=8))
    made(tiny_pipe, hiflow, (128, 128), on_step=lambda *step: told.append(step))
    stages = hiflow.stages(ImageRequest((128, 128), 2, 1.0))
    assert told == [(k, n + 1) for k, stage in enumerate(stages) for n in range(stage.taken)] and len(stages) == 2


def test_generating_touches_no_global_generator_and_repeats_itself(tiny_pipe):
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    first = made(tiny_pipe, load("sega"), (128, 64))
    assert torch.random.get_rng_state().equal(state)
    torch.manual_seed(4)
    assert np.array_equal(pixels(first), pixels(made(tiny_pipe, load("sega"), (128, 64))))
    assert not np.array_equal(pixels(first), pixels(made(tiny_pipe, load("sega"), (128, 64), seed=1)))


def test_packing_is_that_of_the_pipeline(tiny_pipe):
    adapter, latent = FluxAdapter(tiny_pipe), torch.randn(2, 8, 12, 20)
    packed = adapter.pack(latent)
    assert packed.equal(tiny_pipe._pack_latents(latent, 2, 8, 12, 20))
    assert adapter.unpack(packed, (6, 10)).equal(latent)
    assert adapter.latent_shape((80, 48)) == (1, 8, 12, 20)
    assert image_ids((6, 10), "cpu").equal(tiny_pipe._prepare_latent_image_ids(1, 6, 10, "cpu", torch.float32))


def test_encoding_takes_the_mode_or_a_seeded_sample(tiny_pipe):
    adapter, picture = FluxAdapter(tiny_pipe), torch.rand(1, 3, 64, 64) * 2 - 1
    mode = adapter.encode(picture, None)
    draws = [adapter.encode(picture, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert mode.shape == (1, 8, 16, 16) and mode.equal(adapter.encode(picture, None))
    assert draws[0].equal(draws[1]) and not draws[0].equal(draws[2]) and not draws[0].equal(mode)
    assert adapter.decode(mode).shape == (1, 3, 64, 64)


@pytest.mark.parametrize(("schedule", "shift"), [("pinned", math.exp(1.15)), (6.0, 6.0)])
def test_times_of_a_stage(tiny_pipe, schedule, shift):
    stage = Stage((256, 256), 10, 1.0, schedule)
    u = np.linspace(1, 0.1, 10)
    expected = [*(shift * u / (1 + (shift - 1) * u)), 0]
    assert stage_sigmas(tiny_pipe.scheduler, stage, 1024) == pytest.approx(expected, abs=1e-6)
    late = replace(stage, first=6, last=9)
    assert late.taken == 3
    assert stage_sigmas(tiny_pipe.scheduler, late, 1024) == pytest.approx([*expected[6:9], 0], abs=1e-6)


def test_sigmas_that_are_given_are_not_moved(tiny_pipe):
    """By dynamic, static and no shift, and by a stretch to a last sigma; the stock list comes back afterwards."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    stage = Stage((64, 64), 2, 1.0, (0.4, 0.1))
    stretched = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02)
    for scheduler in (tiny_pipe.scheduler, stretched, FlowMatchEulerDiscreteScheduler(shift=2.0)):
        for item in (stage, replace(stage, steps=1, schedule=(0.4,))):
            assert stage_sigmas(scheduler, item, 64) == pytest.approx([*item.schedule, 0])

    @dataclass(frozen=True)
    class Given(Method):
        def stages(self, request):
            return [replace(stage, size=request.size)]

    before = pixels(made(tiny_pipe, VANILLA, (64, 64)))
    done = made(tiny_pipe, Given(GEOMETRY), (64, 64))
    assert [step.sigma for step in done.steps] == pytest.approx([0.4, 0.1])
    assert np.array_equal(pixels(made(tiny_pipe, VANILLA, (64, 64))), before)
    assert stage.identity()["schedule"] == [0.4, 0.1]


def test_stock_times_extrapolate(tiny_pipe):
    # mu = 0.5 + (1024 - 16)(1.15 - 0.5)/(256 - 16)
    sigmas = stage_sigmas(tiny_pipe.scheduler, Stage((256, 256), 4, 1.0, "stock"), 1024)
    shift = math.exp(0.5 + 1008 * 0.65 / 240)
    assert sigmas[2] == pytest.approx(shift * 0.5 / (1 + (shift - 1) * 0.5), abs=1e-6)


def test_static_shift_of_a_scheduler_without_dynamic_shifting(tiny_pipe):
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    sigmas = stage_sigmas(scheduler, Stage((128, 128), 4, 1.0, 3.0), 256)
    assert sigmas[2] == pytest.approx(3 * 0.5 / (1 + 2 * 0.5)) and scheduler.shift == 2.0
    assert stage_sigmas(scheduler, Stage((128, 128), 4, 1.0), 256)[2] == pytest.approx(2 * 0.5 / 1.5)


@pytest.mark.parametrize("size", [(100, 128), (128, 0), (4, 128)])
def test_sizes_that_are_no_multiple_of_a_token_are_refused(tiny_pipe, size):
    with pytest.raises(RequestError, match="not a multiple of 8 px"):
        made(tiny_pipe, VANILLA, size)
    with pytest.raises(RequestError):
        check_size(size, 8)


def test_generate_needs_a_pipeline(tiny_pipe):
    with pytest.raises(RequestError, match="whole pipeline"):
        made(tiny_pipe.transformer, VANILLA)


def test_aligning_pads_with_zeros_and_crops():
    latent = torch.randn(1, 2, 6, 8)
    padded = align(latent, (8, 10))
    assert padded[..., 1:-1, 1:-1].equal(latent) and padded[..., 0, :].abs().sum() == 0
    assert align(padded, (6, 8)).equal(latent) and align(latent, (6, 8)).equal(latent)


def test_the_generator_of_an_image_is_its_own(tiny_pipe):
    def image(seed):
        request, generator = ImageRequest((8, 8), 1, 1.0), seeded(seed, PROMPT, (8, 8), "method")
        return ImageGeneration(FluxAdapter(tiny_pipe), VANILLA, PROMPT, seed, request, [], generator)

    assert image(0).random((4,)).equal(image(0).random((4,))) and not image(0).random((4,)).equal(image(1).random((4,)))


def test_a_point_is_aligned_to_its_latent():
    point = Point(torch.zeros(1, 1, 6, 6), torch.ones(1, 1, 6, 6), 0.5, 0.25, 0, 2, 1)
    assert point.clean.eq(-0.5).all() and point.align(torch.ones(1, 1, 4, 4)).sum() == 16
