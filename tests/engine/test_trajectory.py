"""Steps that are not the scheduler's own: solvers on a known flow, smaller latents first, windows late."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from small import SIDE, build, load, made, pixels

from sega import attach
from sega.engine.sampling import generate
from sega.engine.trajectory import Trajectory, build_solver
from sega.errors import RequestError
from sega.formulas.flops import call_flops
from sega.loading.caching import enable, read_cache
from sega.methods.legs import Leg
from sega.methods.stepping import EULER, PLAIN, Late, Progressive, Stepping
from sega.models import adapter_for

SIZE = (16 * SIDE, 12 * SIDE)  # twice the training side and 1.5 times
STEPS = 8


@pytest.fixture(scope="module")
def own_pipe():
    return build(double=1, single=1)


@contextmanager
def stepped(pipe, *, cache=None, **keys):
    adapter = adapter_for(pipe)
    adapter.stepping = Stepping(**keys)
    if cache:
        enable(pipe.transformer, read_cache(cache), pipe.transformer.dtype)
    try:
        yield pipe
    finally:
        adapter.stepping = PLAIN
        if cache:
            pipe.transformer.disable_cache()


def solved(name, steps, ratio=0.3):
    """x at sigma 0 from 1 at sigma 1 along dx/dsigma = ratio x + sigma, whose solution is known."""
    sigmas = np.linspace(1, 0, steps + 1).tolist()
    leg, x = Leg((2, 2), sigmas), torch.ones(1, 1, 2, 2)
    solver = build_solver(name, leg)
    for sigma in leg.calls(name):
        x = solver.step(x, ratio * x + sigma)
    return float(x[0, 0, 0, 0])


def test_solvers_of_second_order_are_closer_to_the_solution():
    ratio = 0.3
    # x = c e^(r s) - s/r - 1/r^2 with x(1) = 1
    exact = (1 + 1 / ratio + 1 / ratio**2) * np.exp(-ratio) - 1 / ratio**2
    errors = {name: abs(solved(name, 16) - exact) for name in (EULER, "heun", "dpm++2m", "unipc")}
    assert errors[EULER] > 0.01
    for name in ("heun", "dpm++2m", "unipc"):
        assert errors[name] < errors[EULER] / 4, errors
    assert abs(solved("heun", 32) - exact) < errors["heun"] / 3 + 1e-6


@pytest.mark.parametrize("name", ["vanilla", "sega"])
@pytest.mark.parametrize("solver", ["heun", "dpm++2m", "unipc"])
def test_a_solver_runs_at_the_sigmas_of_the_scheduler(own_pipe, name, solver):
    exact = made(own_pipe, load(name), SIZE, STEPS)
    with stepped(own_pipe, solver=solver):
        found = made(own_pipe, load(name), SIZE, STEPS)
    assert found.calls == len(found.steps) == (2 * STEPS - 1 if solver == "heun" else STEPS)
    assert found.full_calls is None
    assert sorted({step.sigma for step in found.steps}) == sorted(step.sigma for step in exact.steps)
    assert not np.array_equal(pixels(found), pixels(exact))
    assert np.array_equal(pixels(made(own_pipe, load(name), SIZE, STEPS)), pixels(exact))


def test_first_steps_run_on_a_smaller_latent_and_are_counted_so(own_pipe):
    with stepped(own_pipe, progressive=Progressive(0.05, 2)):
        found = made(own_pipe, load("sega"), SIZE, STEPS)
        again = made(own_pipe, load("sega"), SIZE, STEPS)
    assert np.array_equal(pixels(found), pixels(again)) and pixels(found).shape[:2] == SIZE[::-1]
    grids = [step.grid for step in found.steps]
    full = (SIZE[1] // 8, SIZE[0] // 8)
    assert sorted(set(grids), key=grids.index) == [(full[0] // 4, full[1] // 4), (full[0] // 2, full[1] // 2), full]
    for step, after in zip(found.steps, found.steps[1:], strict=False):
        assert after.sigma < step.sigma or after.grid != step.grid
    config = {**own_pipe.transformer.config, "_class_name": "FluxTransformer2DModel"}
    text = load("sega").geometry.text_tokens
    whole = call_flops(config, full[0] * full[1], text)
    shares = [call_flops(config, grid[0] * grid[1], text) / whole for grid in grids]
    assert [step.share for step in found.steps] == pytest.approx(shares)
    assert found.full_calls == pytest.approx(sum(shares)) and found.calls == STEPS


def test_a_method_reads_the_latent_of_the_step_that_runs(own_pipe):
    """SEGA's factors on a smaller latent are those that it gives for the tokens of this latent by itself."""
    from sega.engine.recorder import Observation

    method = load("sega")
    with stepped(own_pipe, progressive=Progressive(0.05)):
        found = made(own_pipe, method, SIZE, STEPS, observe=Observation(("tokens", "magnitudes")))
    for step in found.steps:
        assert len(step.tokens) == step.grid[0] * step.grid[1]
        rope = method.positions(step.grid, step.sigma, step.tokens)
        for axis, recorded in zip((rope.height, rope.width), step.details["magnitudes"], strict=True):
            torch.testing.assert_close(axis.magnitudes.float().cpu(), recorded.float().cpu(), rtol=1e-4, atol=1e-5)


def test_the_noise_of_all_sizes_is_that_of_the_image():
    noise = torch.randn(1, 4, 32, 48, generator=torch.Generator().manual_seed(3))
    trajectory = Trajectory(Stepping(progressive=Progressive(0.05)), noise)
    sigmas = [*np.linspace(1, 1 / 8, 8).tolist(), 0.0]
    x, calls = trajectory.begin(sigmas)
    assert x.shape == (1, 4, 16, 24) and len(calls) == 8
    turn = next(index for index, sigma in enumerate(sigmas) if sigma <= 0.718)
    assert calls[:turn] == sigmas[:turn] and calls[turn + 1 :] == sigmas[turn + 1 : -1]
    assert calls[turn] == pytest.approx(2 * sigmas[turn] / (1 + sigmas[turn]))
    # Of pure noise the velocity towards a clean latent of zeros is the noise itself: the latent stays sigma times it.
    for index in range(8):
        at = calls[index]
        small = x / at
        x = trajectory.step(x, small)
        if index + 1 == turn:
            torch.testing.assert_close(x, calls[turn] * noise, atol=1e-4, rtol=0)
    assert float(x.abs().max()) < 1e-4


def test_windows_late_are_exact_above_their_sigma_and_count_fewer_pairs(own_pipe):
    exact = made(own_pipe, load("sega"), SIZE, STEPS)
    with stepped(own_pipe, late_attention=Late("window", 1.0, 0.5)):
        found = made(own_pipe, load("sega"), SIZE, STEPS)
    for step in found.steps:
        assert (step.share < 1) == (step.sigma < 0.5), step
    assert {step.sigma < 0.5 for step in found.steps} == {True, False}
    assert found.full_calls < STEPS == exact.calls
    assert not np.array_equal(pixels(found), pixels(exact))
    with stepped(own_pipe, late_attention=Late("window", 4.0, 0.5)):  # windows larger than the image
        same = made(own_pipe, load("sega"), SIZE, STEPS)
    assert np.array_equal(pixels(same), pixels(exact)) and same.full_calls == pytest.approx(STEPS)


def test_pruned_attention_keeps_to_its_share_of_the_pairs(own_pipe):
    with stepped(own_pipe, late_attention=Late("pruned", 0.6, 0.5)):
        found = made(own_pipe, load("sega"), SIZE, STEPS)
    config, text = own_pipe.transformer.config, load("sega").geometry.text_tokens
    tokens = SIZE[0] * SIZE[1] // 64 + text
    dense = 4 * tokens**2 * config.num_attention_heads * config.attention_head_dim * 2  # two layers
    whole = call_flops({**config, "_class_name": "FluxTransformer2DModel"}, tokens - text, text)
    late = [step.share for step in found.steps if step.sigma < 0.5]
    assert late and all(1 - dense / whole < share <= 1 - 0.4 * dense / whole + 1e-9 for share in late)


@pytest.mark.parametrize(
    ("cache", "solver"), [("first_block:3", "dpm++2m"), ("taylorseer:2", "unipc"), ("sea:9", "heun")]
)
def test_all_together_with_a_cache(own_pipe, cache, solver):
    """The cache begins anew where the latent grows: no residual of the smaller one is left to add."""
    keys = {"solver": solver, "progressive": Progressive(0.05), "late_attention": Late("window", 1.0)}
    with stepped(own_pipe, cache=cache, **keys):
        found = made(own_pipe, load("sega"), SIZE, STEPS)
        again = made(own_pipe, load("sega"), SIZE, STEPS)
    assert np.array_equal(pixels(found), pixels(again))
    grids = [step.grid for step in found.steps]
    turn = next(index for index in range(1, len(grids)) if grids[index] != grids[index - 1])
    assert found.steps[turn].details["blocks"] == 2  # all of them
    assert min(step.details["blocks"] for step in found.steps) < 2
    assert found.full_calls < found.calls


def test_by_hand_they_are_refused(own_pipe):
    with stepped(own_pipe, solver="heun"), pytest.raises(RequestError, match="works in run.py and generate only"):
        attach(own_pipe, load("sega"))


def test_both_calls_of_true_guidance_see_the_smaller_latent():
    from sega.methods.registry import build_method
    from sega.testing import small_pipeline

    qwen = small_pipeline("qwen")
    method = build_method({"name": "sega"}, qwen.geometry)
    about = {"size": (256, 192), "steps": STEPS, "guidance": 4.0, "negative_prompt": " "}
    with stepped(qwen.pipe, solver="unipc", progressive=Progressive(0.05), late_attention=Late("pruned", 0.6, 0.5)):
        found = generate(qwen.pipe, method, "a boat", **about)
    assert found.calls == 2 * STEPS and found.full_calls < found.calls
    for first, second in zip(found.steps[::2], found.steps[1::2], strict=True):
        assert (first.grid, first.sigma) == (second.grid, second.sigma)
        assert (first.branch, second.branch) == ("cond", "uncond")
    assert found.steps[0].grid == (6, 8) and found.steps[-1].grid == (12, 16)
