"""The seams of staged methods, tried with small methods made here."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from small import GEOMETRY, VANILLA, load, made, pixels

from sega.methods.base import Method
from sega.methods.types import Stage


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
        *((0, (8, 8), k) for k in range(4)),
        (1, (16, 16), 0),
        (1, (16, 16), 1),
    ]
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
            return [replace(stage, positions=load(self.other))]

    for name in ("sega", "yarn"):
        expected = made(tiny_pipe, load(name), (256, 128))
        assert np.array_equal(pixels(made(tiny_pipe, Other(GEOMETRY, other=name), (256, 128))), pixels(expected))


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
