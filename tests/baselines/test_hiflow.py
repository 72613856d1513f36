"""HiFlow: golden values of its steps through the flow part the method uses, and its stages."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from shifts import shift_exponential

from baselines import hiflow
from sega import load_method
from sega.errors import RequestError
from sega.formulas import rope
from sega.formulas.filters import bicubic
from sega.formulas.schedules import linear_grid
from sega.methods import staged
from sega.methods.geometry import load_geometry
from sega.methods.types import ImageRequest, Point

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = {"hiflow_steps": ("fft", 3), "hiflow_steps_dwt": ("dwt", 2)}
ATOL = 1e-5


def flow_of(values, structure):
    overrides = [
        f"structure={structure}",
        f"alphas={float(values['alpha0'])}",
        f"betas={float(values['beta0'])}",
        f"filter_ratio={float(values['filter_ratio'])}",
    ]
    return load_method("hiflow", overrides=overrides).flow(1, generation=None)


@pytest.mark.parametrize("name", FILES)
def test_consecutive_steps(name):
    structure, steps = FILES[name]
    with np.load(GOLDEN / f"{name}.npz") as values:
        sigmas = values["sigmas"]
        flow, x = flow_of(values, structure), torch.from_numpy(values["x_init"])

        def close(actual, key):
            torch.testing.assert_close(actual, torch.from_numpy(values[key]), rtol=0, atol=ATOL)

        for k in range(steps):
            v, low = (torch.from_numpy(values[f"step{k}/{key}"]) for key in ("v_model", "low_x0"))
            point = Point(x, v, float(sigmas[k]), float(sigmas[k + 1]), k, steps, 1, low)
            close(point.clean, f"step{k}/x0_unguided")
            assert flow.alpha * flow.share(point) == pytest.approx(float(values[f"step{k}/alpha"]))
            assert flow.beta * flow.share(point) == pytest.approx(float(values[f"step{k}/beta"]))
            velocity = flow(point)
            close(velocity, f"step{k}/v_guided")
            close(flow.previous[1], f"step{k}/v_ref")
            x = x + (point.next_sigma - point.sigma) * velocity
            close(x, f"step{k}/x_next")
        each = {"low_x0", "v_model", "alpha", "beta", "v_guided", "v_ref", "x_next", "x0_unguided"}
        compared = {f"step{k}/{key}" for k in range(steps) for key in each}
        assert compared | {"sigmas", "x_init", "alpha0", "beta0", "filter_ratio"} == set(values.files)


def test_without_weights_the_flow_is_the_network_s():
    x, v = (torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(2))
    flow = hiflow.Guidance(0, 0, "step", bicubic, lambda stored, size: bicubic(stored, size))
    flow.lowpass = lambda latent: latent
    for k in range(2):
        torch.testing.assert_close(flow(Point(x, v, 0.5, 0.4, k, 2, 1, x)), v, rtol=0, atol=1e-4)


def test_full_direction_with_an_open_filter_leads_to_the_reference():
    x, v, low = (torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    flow = hiflow.Guidance(1, 0, "step", lambda latent: latent, lambda stored, size: stored)
    velocity = flow(Point(x, v, 0.5, 0.4, 0, 2, 1, low))
    torch.testing.assert_close(x - 0.5 * velocity, low, rtol=0, atol=1e-4)


def test_memory_follows_shifted_windows():
    flow = hiflow.Guidance(0, 1, "step", lambda latent: 0 * latent, lambda stored, size: bicubic(stored, size))
    stored = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    for k, side in enumerate((10, 8, 10)):
        x = torch.ones(1, 4, side, side)
        assert flow(Point(x, x, 0.5, 0.4, k, 3, 1, stored)).shape == x.shape


def test_weights_of_the_paper_follow_the_time():
    flow = load_method("hiflow", overrides=["variant=paper"]).flow(1, generation=None)
    x = torch.zeros(1, 1, 4, 4)
    assert flow.share(Point(x, x, 0.8, 0.6, 0, 4, 1)) == 1
    assert flow.share(Point(x, x, 0.6, 0.4, 1, 4, 1)) == pytest.approx(0.75)


def test_a_time_without_a_prediction_is_an_error():
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(RequestError, match="no prediction at time 0.5"):
        hiflow.Guidance(1, 1, "step", lambda latent: latent, bicubic)(Point(x, x, 0.5, 0.4, 0, 4, 1))


def summary(size, *overrides, model="flux"):
    stages = load_method("hiflow", model, overrides).stages(ImageRequest(size, 28, 4.5))
    return [(stage.size, stage.taken, stage.guidance) for stage in stages]


def test_stages_of_the_published_run():
    base, first, second = load_method("hiflow").stages(ImageRequest((4096, 4096), 28, 4.5))
    assert summary((4096, 4096)) == [((1024, 1024), 30, 3.5), ((2048, 2048), 16, 4.5), ((4096, 4096), 10, 6.0)]
    assert base.plain and not base.windows and first.windows and second.windows
    assert [stage.positions.factor for stage in (first, second)] == [10.0, 10.0]
    times = shift_exponential(linear_grid(30), 1.15)
    assert times[first.first] == pytest.approx(0.783, abs=1e-3)
    assert times[second.first] == pytest.approx(0.612, abs=1e-3)


def test_stages_of_other_requests():
    assert summary((2048, 2048)) == [((1024, 1024), 30, 3.5), ((2048, 2048), 16, 4.5)]
    assert [row[0] for row in summary((3072, 3072))] == [(1024, 1024), (2048, 2048), (3072, 3072)]
    assert [row[0] for row in summary((8192, 8192))][1:] == [(2048, 2048), (4096, 4096), (8192, 8192)]
    assert summary((8192, 8192))[-1][1:] == (10, 6.0)  # lists go on with their last value
    assert [row[0] for row in summary((4096, 2048))] == [(1456, 720), (2896, 1440), (4096, 2048)]
    assert [row[:2] for row in summary((4096, 4096), "variant=paper")] == [
        ((1024, 1024), 30),
        ((2048, 2048), 18),
        ((3072, 3072), 9),
        ((4096, 4096), 9),
    ]
    assert [row[0] for row in summary((4096, 4096), "ratios=[]")] == [(1024, 1024), (4096, 4096)]
    assert [row[0][0] for row in summary((768, 768), model="tiny")] == [192, 384, 768]
    assert [row[0][0] for row in summary((2656, 2656), model="qwen")] == [1328, 2656]


@pytest.mark.parametrize("size", [(1024, 1024), (512, 512), (1360, 768), (640, 1536)])
def test_a_target_no_larger_than_the_base_is_the_base(size):
    (only,) = load_method("hiflow").stages(ImageRequest(size, 28, 4.5))
    assert only.plain and only.size == size and only.taken == 30


def test_bases_have_the_aspect_of_the_target():
    geometry = load_geometry("flux")
    for size in ((4096, 4096), (2048, 1152), (1152, 2048), (8192, 1024), (1040, 1040)):
        width, height = staged.base_size(size, geometry)
        assert width % 16 == height % 16 == 0
        assert math.log(width / height) == pytest.approx(math.log(size[0] / size[1]), abs=0.05)
        assert width * height == pytest.approx(1024**2, rel=0.05)


def test_positions():
    for grid, upscaled in (((128, 128), True), ((256, 256), True), ((64, 64), False), ((32, 48), False)):
        positions = load_method("hiflow").positions(grid)
        assert positions.stock != upscaled
        expected = rope.base_frequencies(56, 1e5 if upscaled else 1e4)
        assert positions.height.frequencies.equal(expected) and bool((positions.height.magnitudes == 1).all())
    four = load_method("hiflow", overrides=["ntk_factors=[4,10]"])
    assert four.positions((128, 128)).height.frequencies.equal(rope.base_frequencies(56, 4e4))
    assert four.positions((256, 256)).height.frequencies.equal(rope.base_frequencies(56, 1e5))
    assert load_method("hiflow", overrides=["positions_of=sega"]).needs() == {"tokens"}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("steps=[40]", "no larger than base_steps=30"),
        ("steps=[2.5]", "whole numbers"),
        ("steps=[]", "list of whole numbers"),
        ("alphas=many", "list of numbers"),
        ("ratios=[0.5]", "at least 1.0001"),
        ("schedule=stock", "schedule=stock is not allowed"),
        ("structure=fftt", "did you mean 'fft'"),
        ("weights=linear", "weights=linear is not allowed"),
        ("base_steps=none", "base_steps=none must be a whole number"),
        ("variant=text", "variant=text is not allowed"),
        ("sharpening=0", "between 0.01 and 100"),
    ],
)
def test_wrong_parameters(override, says):
    with pytest.raises(RequestError, match=says):
        load_method("hiflow", overrides=[override])
