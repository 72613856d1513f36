"""vision_yarn and Dy-PI on FLUX against values of ComfyUI-DyPE."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sega import load_method
from sega.formulas import rope
from sega.methods.base import uniform_axis
from sega.methods.types import Rope
from sega.models.flux_tables import rotary_table

VALUES = np.load(Path(__file__).parents[1] / "golden" / "vision_yarn.npz")
CASES = sorted({key.rsplit("/", 1)[0] for key in VALUES.files if "/" in key})
VISION, PI = ([case for case in CASES if case.startswith(name)] for name in ("vision_yarn/", "dy_pi/"))
D, THETA = 56, 10000.0


def stored_of(case):
    return {key.rsplit("/", 1)[1]: VALUES[key] for key in VALUES.files if key.rsplit("/", 1)[0] == case}


def by_formula(stored, sigma):
    """The rule with the case's own training grid, which need not be square: that of a model is."""
    grid, train = ([int(side) for side in stored[name]] for name in ("grid", "base_grid"))
    strength, start = [float(value) for value in stored["scale_exponent"]], float(stored["start_sigma"])
    longer = max(1.0, *(side / n0 for side, n0 in zip(grid, train, strict=True)))
    if longer == 1:
        axes = [uniform_axis(rope.base_frequencies(D, THETA))] * 2
    else:
        magnitude = rope.vision_yarn_magnitude(longer, sigma, start, strength[1])
        scales = [max(1.0, side / n0) for side, n0 in zip(grid, train, strict=True)]
        axes = [
            uniform_axis(rope.vision_yarn(D, THETA, scale, longer, n0, sigma, *strength), magnitude)
            for scale, n0 in zip(scales, train, strict=True)
        ]
    return Rope(*axes)


def edges(train_tokens, kappa):
    turns = ((1.25**kappa, 0.75**kappa), (16**kappa, 2**kappa))
    return [end for fast, slow in turns for end in rope.ramp_ends(D, THETA, train_tokens, fast, slow)]


@pytest.mark.parametrize("case", VISION)
def test_vision_yarn(case):
    stored = stored_of(case)
    scale, exponent = map(float, stored["scale_exponent"])
    overrides = [f"lambda_s={scale}", f"lambda_t={exponent}", f"start_sigma={float(stored['start_sigma'])}"]
    method, grid = load_method("vision_yarn", "flux", overrides), tuple(map(int, stored["grid"]))
    square = tuple(stored["base_grid"]) == (64, 64)
    places = {float(time): (index, None) for index, time in enumerate(VALUES["times"])}
    places |= {float(time): (places[float(time)][0], index) for index, time in enumerate(VALUES["table_times"])}
    for time, (index, row) in places.items():
        positions = method.positions(grid, time) if square else by_formula(stored, time)
        for letter, axis, train in zip("hw", (positions.height, positions.width), stored["base_grid"], strict=True):
            np.testing.assert_allclose(axis.frequencies, stored[f"freq_{letter}"][index], rtol=1e-7)
            np.testing.assert_allclose(axis.magnitudes, np.full(28, stored[f"mscale_{letter}"][index]), rtol=1e-7)
            stock = (stored["grid"] <= stored["base_grid"]).all()
            ends = [math.nan] * 4 if stock else edges(int(train), scale * time**exponent)
            np.testing.assert_array_equal(ends, stored[f"edges_{letter}"][index])
        if row is not None:
            table = rotary_table(torch.from_numpy(stored["ids"]), positions, method.geometry)
            for name, values in zip(("cos", "sin"), table, strict=True):
                np.testing.assert_allclose(values, stored[name][row], rtol=0, atol=2e-6)


@pytest.mark.parametrize("case", PI)
def test_dy_pi(case):
    stored = stored_of(case)
    assert tuple(stored["base_grid"]) == (64, 64)
    method, grid = load_method("dype", "flux", ["base=pi"]), tuple(map(int, stored["grid"]))
    for index, time in enumerate(VALUES["times"]):
        positions = method.positions(grid, time)
        for letter, axis in (("h", positions.height), ("w", positions.width)):
            np.testing.assert_allclose(axis.frequencies, stored[f"freq_{letter}"][index], rtol=5e-7)
            assert (axis.magnitudes == 1).all()
    for index, time in enumerate(VALUES["table_times"]):
        table = rotary_table(torch.from_numpy(stored["ids"]), method.positions(grid, time), method.geometry)
        for name, values in zip(("cos", "sin"), table, strict=True):
            np.testing.assert_allclose(values, stored[name][index], rtol=0, atol=5e-5)


def test_every_array_is_compared():
    both = {"ids", "grid", "base_grid", "freq_h", "freq_w", "cos", "sin"}
    own = {"start_sigma", "scale_exponent", "mscale_h", "mscale_w", "edges_h", "edges_w"}
    assert set().union(*(stored_of(case) for case in PI)) == both
    assert set().union(*(stored_of(case) for case in VISION)) == both | own
    assert {key for key in VALUES.files if "/" not in key} == {"times", "table_times"}


def test_a_native_axis_moves_with_the_longer_one_and_qwen_image_keeps_its_text():
    positions = load_method("vision_yarn", "qwen").positions((83, 166), 1.0)
    base = rope.base_frequencies(D, THETA)
    assert positions.text == "base" and not positions.height.frequencies.equal(base)
    assert positions.height.magnitudes.equal(positions.width.magnitudes)
    assert positions.height.frequencies[-1] == base[-1]
    expected = rope.vision_yarn(D, THETA, 2.0, 2.0, 83, 1.0)
    assert positions.width.frequencies.equal(expected)
