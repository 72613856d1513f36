"""Generation: noise, shifts, and the seams of staged methods, tried with small methods made here."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from sega import load_method
from sega.errors import RequestError
from sega.method import Method
from sega.models.flux import FluxAdapter, image_ids
from sega.noise import noise_seed
from sega.parts import Attention, Point, Stage, align, check_size
from sega.sampling import Run, generate, seeded
from sega.shift import stage_sigmas

PROMPT = "a red striped ball on the left standing on grass under a cloudy sky with light from the right"
GEOMETRY = load_method("vanilla", "tiny").geometry
VANILLA = Method(GEOMETRY)


def made(pipe, method, size=(128, 128), steps=2, **options):
    options = {"prompt": PROMPT, "seed": 0, "guidance": 1.0} | options
    return generate(pipe, method, size=size, steps=steps, **options)


def pixels(generated):
    return np.asarray(generated.image)


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


def test_generating_touches_no_global_generator_and_repeats_itself(tiny_pipe):
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    first = made(tiny_pipe, load_method("sega", "tiny"), (128, 64))
    assert torch.random.get_rng_state().equal(state)
    torch.manual_seed(4)
    assert np.array_equal(pixels(first), pixels(made(tiny_pipe, load_method("sega", "tiny"), (128, 64))))
    assert not np.array_equal(pixels(first), pixels(made(tiny_pipe, load_method("sega", "tiny"), (128, 64), seed=1)))


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


# The seams of staged methods


@dataclass(frozen=True)
class TwoStages(Method):
    """The model as it is at half size, then the second half of the same times from its noised enlargement."""

    staged = True
    windows: bool = False
    steps: int = 4

    def stages(self, request):
        half = (request.size[0] // 2, request.size[1] // 2)
        return [
            Stage(half, self.steps, request.guidance, plain=True),
            Stage(request.size, self.steps, request.guidance, first=2, windows=self.windows),
        ]

    def begin(self, index, run):
        if index == 0:
            return run.noise(run.stages[0].size)
        clean = run.encode(torch.nn.functional.interpolate(run.decode(run.latent), scale_factor=2.0), sample=True)
        entry = run.sigmas(index)[0]
        return (1 - entry) * clean + entry * run.noise(run.stages[1].size)


@dataclass(frozen=True)
class Unsteered(TwoStages):
    """A flow part that follows the velocity as it is."""

    def flow(self, index, run):
        return lambda point: point.velocity


@dataclass(frozen=True)
class Watching(TwoStages):
    def flow(self, index, run):
        self.points.append([])

        def correct(point):
            self.points[-1].append((point, point.align(torch.zeros(1, 8, 32, 32)).shape))
            return point.velocity

        return correct


def test_a_stage_is_a_pass_of_the_stock_pipeline(tiny_pipe):
    done = made(tiny_pipe, TwoStages(GEOMETRY))
    assert [(step.stage, step.grid, step.index) for step in done.steps] == [
        *((0, (8, 8), k) for k in range(4)), (1, (16, 16), 0), (1, (16, 16), 1)
    ]  # fmt: skip
    times = [step.sigma for step in done.steps]
    assert times[4:] == times[2:4] and done.calls == 6 and pixels(done).shape == (128, 128, 3)
    assert np.array_equal(pixels(done), pixels(made(tiny_pipe, TwoStages(GEOMETRY))))


def test_a_plain_stage_is_vanilla_at_its_size(tiny_pipe):
    @dataclass(frozen=True)
    class Base(TwoStages):
        def stages(self, request):
            return super().stages(request)[:1]

    base, vanilla = made(tiny_pipe, Base(GEOMETRY)), made(tiny_pipe, VANILLA, (64, 64), steps=4)
    assert np.array_equal(pixels(base), pixels(vanilla))


def test_following_the_velocity_as_it_is_changes_nothing(tiny_pipe):
    assert np.array_equal(pixels(made(tiny_pipe, TwoStages(GEOMETRY))), pixels(made(tiny_pipe, Unsteered(GEOMETRY))))


def test_a_flow_correction_leads_where_it_points(tiny_pipe):
    """With v = (x - g)/sigma, whatever the model says, the last step lands on g."""
    goal = torch.randn(1, 8, 32, 32)

    @dataclass(frozen=True)
    class ToGoal(TwoStages):
        def flow(self, index, run):
            return lambda point: (point.x - point.align(goal)) / point.sigma

        def finish(self, run):
            assert run.latent.dtype == torch.float32 and torch.allclose(run.latent, goal, atol=1e-5)
            return super().finish(run)

    made(tiny_pipe, ToGoal(GEOMETRY))
    made(tiny_pipe, ToGoal(GEOMETRY, windows=True))


def test_what_a_flow_correction_sees(tiny_pipe):
    method = Watching(GEOMETRY)
    object.__setattr__(method, "points", [])
    done = made(tiny_pipe, method)
    (((first, _), (second, _)),) = method.points  # of the second stage; the first one is the model as it is
    assert [first.index, second.index] == [0, 1] and first.steps == 2 and first.stage == 1
    assert first.sigma == pytest.approx(done.steps[4].sigma) and first.next_sigma == second.sigma
    assert second.next_sigma == 0 and first.x.shape == (1, 8, 32, 32) and first.x.dtype == torch.float32
    # The scheduler's own Euler step is between them, and the base left its predictions at the same times.
    assert torch.allclose(second.x, first.x + (second.sigma - first.sigma) * first.velocity, atol=1e-6)
    assert first.stored.shape == (1, 8, 16, 16) and not first.stored.equal(second.stored)
    assert torch.allclose(first.clean, first.x - first.sigma * first.velocity)


def test_shifted_windows_pad_and_crop(tiny_pipe):
    method = Watching(GEOMETRY, windows=True)
    object.__setattr__(method, "points", [])
    done = made(tiny_pipe, method)
    assert [step.grid for step in done.steps[4:]] == [(17, 17), (16, 16)]
    (padded, shape), (cropped, _) = method.points[0]
    assert padded.x.shape[-2:] == (34, 34) == shape[-2:] and cropped.x.shape[-2:] == (32, 32)
    assert padded.x[..., 0, :].abs().sum() == 0 and padded.velocity[..., 0, :].abs().sum() > 0
    after = padded.x + (padded.next_sigma - padded.sigma) * padded.velocity
    assert torch.allclose(cropped.x, after[..., 1:-1, 1:-1], atol=1e-6)


def test_an_odd_number_of_shifted_steps_ends_at_the_requested_size(tiny_pipe):
    assert pixels(made(tiny_pipe, Unsteered(GEOMETRY, windows=True, steps=5))).shape == (128, 128, 3)


def test_another_finish(tiny_pipe):
    @dataclass(frozen=True)
    class Enlarged(TwoStages):
        def stages(self, request):
            return super().stages(request)[:1]

        def finish(self, run):
            return torch.nn.functional.interpolate(super().finish(run), scale_factor=2.0)

    assert pixels(made(tiny_pipe, Enlarged(GEOMETRY))).shape == (128, 128, 3)


def test_positions_of_another_method_in_a_stage(tiny_pipe):
    @dataclass(frozen=True)
    class Other(Method):
        other: str = "sega"

        def stages(self, request):
            (stage,) = super().stages(request)
            return [replace(stage, positions=load_method(self.other, "tiny"))]

    for name in ("sega", "yarn"):
        expected = made(tiny_pipe, load_method(name, "tiny"), (256, 128))
        assert np.array_equal(pixels(made(tiny_pipe, Other(GEOMETRY, other=name), (256, 128))), pixels(expected))


# The seams of attention


@dataclass(frozen=True, eq=False)
class Attending(Method):
    part: object = None

    def attention(self, index, run):
        return self.part


class Watch(Attention):
    def __init__(self):
        self.calls = []

    def attend(self, call):
        self.calls.append(call)
        return super().attend(call)


def test_an_attention_part_that_changes_nothing_changes_nothing(tiny_pipe):
    part = Watch()
    with_part = made(tiny_pipe, Attending(GEOMETRY, part=part), (128, 64), steps=1)
    assert np.array_equal(pixels(with_part), pixels(made(tiny_pipe, VANILLA, (128, 64), steps=1)))
    first, second = part.calls
    assert (first.layer, second.layer, first.layers) == (0, 1, 2) and first.text == second.text == 24
    assert first.q.shape == (1, 24 + 128, 2, 64) == second.q.shape and first.grid == (8, 16)
    assert first.ids.shape == (24 + 128, 3) and first.ids[24 + 17].tolist() == [0, 1, 1] and first.step.index == 0


class Factor(Attention):
    def __init__(self, value):
        self.value = value

    def factor(self, call):
        return self.value


class Written(Attention):
    """The same logits, written out."""

    def __init__(self, factors):
        self.factors = factors

    def attend(self, call):
        q, k = call.rotate(call.q), call.rotate(call.k)
        logits = torch.einsum("bqhd,bkhd->bhqk", q, k) * self.factors[:, None, None] / q.shape[-1] ** 0.5
        return torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), call.v)


@pytest.mark.parametrize("factor", [1.2, torch.tensor([1.2, 0.7]), torch.tensor([[1.2, 0.7]])])
def test_factors_multiply_the_logits_of_heads(tiny_pipe, factor):
    from sega import attach

    factors = torch.as_tensor(factor).reshape(-1).expand(2)
    outputs = []
    for part in (Factor(factor), Written(factors), Factor(None)):
        with attach(tiny_pipe, Attending(GEOMETRY, part=part)):
            outputs.append(_latent(tiny_pipe))
    assert torch.allclose(outputs[0], outputs[1], atol=1e-4) and not torch.allclose(outputs[0], outputs[2], atol=1e-3)


def _latent(pipe):
    adapter = FluxAdapter(pipe)
    noise = torch.randn(adapter.latent_shape((128, 64)), generator=seeded(0, PROMPT, (128, 64)))
    return adapter.sample(PROMPT, (128, 64), noise, guidance=1.0, num_inference_steps=1, max_sequence_length=24)


def test_rotation_by_other_ids_and_frequencies(tiny_pipe):
    """Rotation is relative: ids moved together leave attention alone; base frequencies undo a method's own."""

    class Moved(Attention):
        def attend(self, call):
            ids = call.ids + torch.tensor([0.0, 3.0, 5.0])
            return call.dense(call.rotate(call.q, ids=ids), call.rotate(call.k, ids=ids), call.v)

    class Base(Attention):
        def attend(self, call):
            rope = VANILLA.positions(call.grid)
            return call.dense(call.rotate(call.q, rope=rope), call.rotate(call.k, rope=rope), call.v)

    @dataclass(frozen=True, eq=False)
    class Yarn(Attending):
        def positions(self, grid, sigma=1.0, tokens=None):
            return load_method("yarn", "tiny").positions(grid, sigma, tokens)

    plain = pixels(made(tiny_pipe, VANILLA, (256, 128), steps=1)).astype(int)
    moved = pixels(made(tiny_pipe, Attending(GEOMETRY, part=Moved()), (256, 128), steps=1)).astype(int)
    assert abs(moved - plain).max() <= 1
    based = pixels(made(tiny_pipe, Yarn(GEOMETRY, part=Base()), (256, 128), steps=1))
    assert np.array_equal(based, plain)


def test_a_pattern_sees_what_it_needs_to_place_text(tiny_pipe):
    """Attention over [text, one half] for each half of the image, as windowed patterns do it."""

    class Halves(Attention):
        def attend(self, call):
            q, k = call.rotate(call.q), call.rotate(call.k)
            text, half = call.text, call.grid[0] * call.grid[1] // 2
            parts = []
            for start in (text, text + half):
                keep = [*range(text), *range(start, start + half)]
                parts.append(call.dense(q[:, keep], k[:, keep], call.v[:, keep]))
            words = (parts[0][:, :text] + parts[1][:, :text]) / 2
            return torch.cat([words, parts[0][:, text:], parts[1][:, text:]], dim=1)

    done = made(tiny_pipe, Attending(GEOMETRY, part=Halves()), (128, 64), steps=1)
    assert not np.array_equal(pixels(done), pixels(made(tiny_pipe, VANILLA, (128, 64), steps=1)))


def test_rehearsing_runs_the_transformer_once_more(tiny_pipe):
    class Rehearsed(Watch):
        def rehearse(self, step):
            return step.index == 0

    part = Rehearsed()
    done = made(tiny_pipe, Attending(GEOMETRY, part=part), (64, 64), steps=2)
    assert done.calls == 3 and ["rehearsal" in step.details for step in done.steps] == [True, False, False]
    assert [step.index for step in done.steps] == [0, 0, 1]
    assert np.array_equal(pixels(done), pixels(made(tiny_pipe, VANILLA, (64, 64), steps=2)))


def test_copies_of_the_text(tiny_pipe):
    class Text(Watch):
        pass

    @dataclass(frozen=True, eq=False)
    class Copies(Attending):
        def text_places(self, grid, index):
            return [(0, 0), (0, 16)]

    part = Text()
    made(tiny_pipe, Copies(GEOMETRY, part=part), (256, 128), steps=1)
    call = part.calls[0]
    assert call.text == 48 and call.q.shape[1] == 48 + 512
    assert call.ids[:24].abs().sum() == 0 and call.ids[24:48].unique(dim=0).tolist() == [[0, 0, 16]]
    assert call.k[:, :24].equal(call.k[:, 24:48]) and call.ids[48].tolist() == [0, 0, 0]


def test_a_suffix_is_said_in_its_stage_only(tiny_pipe):
    @dataclass(frozen=True)
    class Suffixed(TwoStages):
        suffix: str = " in the middle"

        def stages(self, request):
            first, second = super().stages(request)
            return [first, replace(second, suffix=self.suffix)]

    plain, other = made(tiny_pipe, TwoStages(GEOMETRY)), made(tiny_pipe, Suffixed(GEOMETRY))
    assert not np.array_equal(pixels(plain), pixels(other))
    assert np.array_equal(pixels(plain), pixels(made(tiny_pipe, Suffixed(GEOMETRY, suffix=""))))


def test_the_generator_of_an_image_is_its_own(tiny_pipe):
    def run(seed):
        request = None
        return Run(FluxAdapter(tiny_pipe), VANILLA, PROMPT, seed, request, [], False, seeded(seed, PROMPT, (8, 8), "m"))

    assert run(0).random((4,)).equal(run(0).random((4,))) and not run(0).random((4,)).equal(run(1).random((4,)))


def test_a_point_is_aligned_to_its_latent():
    point = Point(torch.zeros(1, 1, 6, 6), torch.ones(1, 1, 6, 6), 0.5, 0.25, 0, 2, 1)
    assert point.clean.eq(-0.5).all() and point.align(torch.ones(1, 1, 4, 4)).sum() == 16
