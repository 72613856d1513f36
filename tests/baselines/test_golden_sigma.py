"""SigMa on FLUX against values of its code; the paper's rule and the other keys by what they promise."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sega import load_method
from sega.formulas import rope
from sega.models.flux_tables import rotary_table

VALUES = np.load(Path(__file__).parents[1] / "golden" / "sigma.npz")
CASES = sorted({key.rsplit("/", 1)[0] for key in VALUES.files if "/" in key})
TIMES = {float(time): index for index, time in enumerate(VALUES["times"])}
D, THETA, N0 = 56, 10000.0, 64
BASE = rope.base_frequencies(D, THETA)


def edges(scale, clock):
    """Ends of the inner and the outer ramp."""
    inner, outer = clock * max(1, math.log2(scale)), clock
    turns = ((1.25**inner, 0.75**inner), (16**outer, 2**outer))
    return [end for fast, slow in turns for end in rope.ramp_ends(D, THETA, N0, fast, slow)]


@pytest.mark.parametrize("case", CASES)
def test_positions_and_tables(case):
    base, size = case.split("/")
    grid = tuple(map(int, size.split("x")))
    stored = {key.rsplit("/", 1)[1]: VALUES[key] for key in VALUES.files if key.startswith(f"{case}/")}
    compared = {"ids"}
    method = load_method("sigma", "flux", [f"base={base}"])

    def compare(name, index, ours, **tolerance):
        compared.add(name)
        np.testing.assert_allclose(ours, stored[name][index], **tolerance)

    for time, index in TIMES.items():
        positions = method.positions(grid, time)
        for letter, axis, side in (("h", positions.height, grid[0]), ("w", positions.width, grid[1])):
            compare(f"freq_{letter}", index, axis.frequencies, rtol=1e-7)
            magnitude = float(axis.magnitudes[0])
            assert (axis.magnitudes == magnitude).all()
            compare(f"mscale_{letter}", index, magnitude, rtol=1e-6)
            scale = side / N0
            clock = rope.sigmoid_clock(scale, time) if scale > 1 else math.nan
            compare(f"clock_{letter}", index, clock, rtol=0, atol=1e-12)
            if base == "yarn":
                ends = edges(scale, clock) if scale > 1 else [math.nan] * 4
                compare(f"edges_{letter}", index, ends, rtol=0)
            else:
                factor = rope.ntk_factor(scale, D) ** clock if scale > 1 else 1
                compare(f"ntk_factor_{letter}", index, factor, rtol=1e-9)
    for index, time in enumerate(VALUES["table_times"]):
        table = rotary_table(torch.from_numpy(stored["ids"]), method.positions(grid, time), method.geometry)
        for name, values in zip(("cos", "sin"), table, strict=True):
            compare(name, index, values, rtol=0, atol=2e-6)
    assert compared == set(stored)


def test_the_clock_is_half_at_its_centre_and_follows_its_keys():
    assert rope.sigmoid_clock(4.0, 0.25) == pytest.approx(0.5)
    assert rope.sigmoid_clock(4.0, 0.6, centre=0.6) == pytest.approx(0.5)
    assert rope.sigmoid_clock(4.0, 0.5, centre=0.2, rate=3.0) == pytest.approx(1 / (1 + math.exp(-3 * math.log(4))))
    auto, fixed = load_method("sigma"), load_method("sigma", overrides=["centre=0.25", "rate=2.0"])
    for grid, same in (((256, 256), True), ((128, 128), False)):
        ours, theirs = (method.positions(grid, 0.4).height.frequencies for method in (auto, fixed))
        assert ours.equal(theirs) == same


def test_the_rule_of_the_code_keeps_slow_pairs_interpolated_and_that_of_the_paper_lets_them_go():
    code, paper = (
        load_method("sigma", overrides=[f"rule={rule}"]).positions((256, 256), 0.1).height.frequencies
        for rule in ("code", "paper")
    )
    torch.testing.assert_close(code[8:], BASE[8:] / 4)
    assert (paper[8:] > 2 * code[8:]).any()
    static = load_method("yarn").positions((256, 256)).height
    first = load_method("sigma", overrides=["rule=paper"]).positions((256, 256), 1.0).height
    torch.testing.assert_close(first.frequencies, static.frequencies)
    torch.testing.assert_close(first.magnitudes, static.magnitudes)


def test_a_constant_magnitude_is_that_of_yarn():
    method = load_method("sigma", overrides=["magnitude=constant"])
    constant, fading = (item.positions((256, 256), 0.1).height for item in (method, load_method("sigma")))
    assert constant.magnitudes.equal(load_method("yarn").positions((256, 256)).height.magnitudes)
    assert constant.frequencies.equal(fading.frequencies) and (fading.magnitudes < 1.02).all()


def test_qwen_image_has_the_same_rule_on_its_own_training_side():
    positions = load_method("sigma", "qwen").positions((166, 83), 0.5)
    clock = rope.sigmoid_clock(2.0, 0.5)
    assert positions.height.frequencies.equal(rope.sigma_yarn(D, THETA, 2.0, 83, clock))
    assert positions.width.frequencies.equal(BASE) and positions.text == "base"
