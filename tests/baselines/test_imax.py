"""I-Max: golden values of its arithmetic, then the method on a small random pipeline."""

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines import imax
from sega import load_method
from sega.errors import RequestError
from sega.formulas import rope
from sega.methods import staged
from sega.methods.borrowed import DIRECT, Borrowing
from sega.methods.geometry import load_geometry
from sega.methods.registry import METHODS, build_method
from sega.methods.types import ImageRequest, Point

VALUES = np.load(Path(__file__).parents[1] / "golden" / "imax.npz")
ROPES = ["S4608_ntk1", "S16896_ntk10", "S66048_ntk10", "S73728_ntk10"]
STEPS = {"step0": 0, "step3": 3, "step7": 7}
MODES = ["cosine_decay", "cosine_shift", "constant"]
TEXT, NATIVE = 512, 4096


def golden(name):
    return torch.from_numpy(np.asarray(VALUES[name]))


def close(actual, expected, atol=1e-5):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("case", ROPES)
def test_clipped_ntk(case):
    length, factor = (float(part.lstrip("Sntk")) for part in case.split("_"))
    for key, dim in (("freq", 56), ("freq_axis0", 16)):
        actual = imax.clipped_ntk(dim, 10000, factor, int(length), TEXT, NATIVE)
        torch.testing.assert_close(actual, golden(f"rope/{case}/{key}"), rtol=1e-6, atol=0)


def test_proportional_attention():
    factors = [staged.proportional_factor(int(n), NATIVE + TEXT) for n in VALUES["prop_attn/seq"]]
    np.testing.assert_allclose(np.array(factors) * 128**-0.5, VALUES["prop_attn/scale_d128"], rtol=1e-9)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("mode", MODES)
def test_velocity_of_a_step(step, mode):
    x, guide, sigma = golden("x"), golden("guide"), float(VALUES[f"{step}/sigma"])
    close(imax.projected_velocity(x, guide, sigma), golden(f"{step}/fp_v"))
    assert imax.cosine_weight(STEPS[step], 10) == pytest.approx(float(VALUES[f"{step}/cosine"][0]), abs=1e-6)
    flow = imax.Projection(guide, mode)
    point = Point(x, golden("v_model"), sigma, 0.0, STEPS[step], 10, 1)
    close(flow(point), golden(f"{step}/{mode}"))


def test_every_array_is_compared():
    compared = {f"rope/{case}/{key}" for case in ROPES for key in ("freq", "freq_axis0")}
    compared |= {f"{step}/{key}" for step in STEPS for key in ("sigma", "cosine", "fp_v", *MODES)}
    compared |= {"x", "guide", "v_model", "prop_attn/seq", "prop_attn/scale_d128"}
    assert compared == set(VALUES.files)


def test_disabled_projection_leaves_the_velocity_alone():
    v = golden("v_model")
    assert imax.mixed_velocity(v, 2 * v, 1.0, "disable") is v


def test_the_guide_is_padded_with_the_latent():
    x = torch.nn.functional.pad(golden("x"), (1, 1, 1, 1))
    point = Point(x, torch.zeros_like(x), 1.0, 0.0, 0, 10, 1)
    projected = imax.projected_velocity(x, torch.nn.functional.pad(golden("guide"), (1, 1, 1, 1)), 1.0)
    close(imax.Projection(golden("guide"), "constant")(point), imax.mixed_velocity(0 * x, projected, 1.0, "constant"))


@pytest.mark.parametrize(
    ("size", "parts", "low"),
    [
        ((4096, 4096), 4, (1024, 1024)),
        ((2048, 2048), 2, (1024, 1024)),
        ((1536, 1536), 2, (768, 768)),  # 1.5 is rounded up
        ((1520, 1536), 1, (1520, 1536)),
        ((4096, 2048), 3, (1360, 672)),  # 1365 x 682 in whole tokens
        ((1024, 1024), 1, (1024, 1024)),
        ((512, 512), 1, (512, 512)),
        ((256, 320), 0, (256, 320)),
    ],
)
def test_low_size(size, parts, low):
    assert imax.divisor(size, 1024) == parts
    assert imax.low_size(size, 1024, 16) == low


def test_stages():
    method = load_method("imax")
    low, high = method.stages(ImageRequest((4096, 4096), 28, 4.5))
    assert (low.size, low.steps, low.guidance, low.schedule, low.plain) == ((1024, 1024), 30, 3.5, 3.0, True)
    assert (high.size, high.steps, high.guidance, high.schedule) == ((4096, 4096), 30, 7.0, 6.0)
    assert high.windows and not low.windows and high.taken == 30
    for size in ((1024, 1024), (512, 512), (1280, 1280)):
        (only,) = method.stages(ImageRequest(size, 28, 4.5))
        assert only.plain and only.size == size
    pinned = load_method("imax", overrides=["schedule=pinned"]).stages(ImageRequest((2048, 2048), 28, 4.5))
    assert [stage.schedule for stage in pinned] == ["pinned", "pinned"]


def test_copies_of_the_text():
    method = load_method("imax")
    assert method.text_positions((128, 128), 1) == [(0, 0), (0, 64), (64, 0), (64, 64)]
    assert method.text_positions((129, 129), 1) == method.text_positions((128, 128), 1)
    assert method.text_positions((50, 200), 1) == [(0, 0), (0, 64), (0, 128)]
    assert load_method("imax", overrides=["text_duplication=false"]).text_positions((128, 128), 1) == [(0, 0)]
    assert load_method("imax", "tiny").text_positions((48, 48), 1) == [(0, 0), (0, 24), (24, 0), (24, 24)]


def test_positions_count_duplicated_text():
    def slowest(*overrides):
        positions = load_method("imax", overrides=overrides).positions((256, 256))
        assert positions.height.frequencies.equal(positions.width.frequencies)
        return positions.height.frequencies

    torch.testing.assert_close(slowest(), golden("rope/S73728_ntk10/freq"), rtol=1e-6, atol=0)
    plain = slowest("text_duplication=false")
    torch.testing.assert_close(plain, golden("rope/S66048_ntk10/freq"), rtol=1e-6, atol=0)
    assert load_method("imax").positions((64, 64)).stock
    assert load_method("imax").positions((32, 48)).stock


@pytest.mark.parametrize("name", DIRECT)
def test_positions_of_a_direct_method(name):
    method, direct = load_method("imax", overrides=[f"positions_of={name}"]), load_method(name)
    assert method.needs() == direct.needs()
    tokens = torch.randn(96 * 128, 4, generator=torch.Generator().manual_seed(0)) if direct.needs() else None
    ours, theirs = (item.positions((96, 128), 0.7, tokens) for item in (method, direct))
    for axis in ("height", "width"):
        assert getattr(ours, axis).frequencies.equal(getattr(theirs, axis).frequencies)
        assert getattr(ours, axis).magnitudes.equal(getattr(theirs, axis).magnitudes)
    assert method.stages(ImageRequest((2048, 2048), 28, 4.5))[1].positions == direct


def test_positions_come_from_methods_that_have_them():
    """Every method without stages gives positions, or may take them; `mix` has those of all others as its keys."""
    for name in METHODS.keys() - {"mix"}:
        method = build_method({"name": name}, load_geometry("flux"))
        assert name in DIRECT or method.staged or isinstance(method, Borrowing)
        assert name not in DIRECT or not method.staged


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("positions_of=hiflow", "positions_of=hiflow is not allowed"),
        ("projection=cosine", "did you mean 'cosine_"),
        ("steps=0", "whole number"),
        ("base_steps=2.5", "whole number"),
        ("level=0", "whole number"),
        ("shift=0", "at least 0.01"),
        ("text_duplication=4", "true or false"),
        ("ntk_factr=2", "did you mean 'ntk_factor'"),
    ],
)
def test_wrong_parameters(override, says):
    with pytest.raises(RequestError, match=says):
        load_method("imax", overrides=[override])


def test_text_that_has_no_place_on_the_grid_is_not_copied():
    assert load_method("imax", "qwen").text_positions((166, 166), 1) == [(0, 0)]
    with pytest.raises(RequestError, match="text_duplication=false"):
        load_method("imax", "qwen", ["text_duplication=true"])
    wide = load_method("imax", "qwen").positions((332, 332)).height.frequencies
    expected = torch.maximum(rope.base_frequencies(56, 1e5), rope.base_frequencies(56, 1e4) / 4)
    torch.testing.assert_close(wide, expected)
