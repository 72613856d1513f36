"""DyPE on YaRN by both rules of its code, product and power, against values of the two versions of that code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sega import load_method
from sega.errors import RequestError
from sega.models.flux_tables import rotary_table
from sega.models.qwen_tables import centred_positions, image_table

GOLDEN = Path(__file__).parents[1] / "golden"
FLUX, QWEN = (np.load(GOLDEN / f"dype_rules_{model}.npz") for model in ("flux", "qwen"))
RULES = ("product", "power")
SIZES = {
    model: sorted({key.split("/")[1] for key in values.files if key.count("/") == 2})
    for model, values in (("flux", FLUX), ("qwen", QWEN))
}
FREQUENCY_RTOL = {"flux": 1e-7, "qwen": 1e-6}
TABLE_ATOL = {"flux": 2e-6, "qwen": 1e-4}


def stored(values, rule, size):
    return {key.split("/")[2]: values[key] for key in values.files if key.startswith(f"{rule}/{size}/")}


def check_axes(rope, expected, index, rtol):
    for letter, axis in (("h", rope.height), ("w", rope.width)):
        np.testing.assert_allclose(axis.frequencies, expected[f"freq_{letter}"][index], rtol=rtol)
        np.testing.assert_allclose(axis.magnitudes, np.full(28, expected[f"mscale_{letter}"][index]), rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", SIZES["flux"])
def test_flux(rule, size):
    expected, grid = stored(FLUX, rule, size), tuple(map(int, size.split("x")))
    method = load_method("dype", "flux", [f"rule={rule}"])
    for index, time in enumerate(FLUX["times"]):
        check_axes(method.positions(grid, time), expected, index, FREQUENCY_RTOL["flux"])
    for index, time in enumerate(FLUX["table_times"]):
        table = rotary_table(torch.from_numpy(expected["ids"]), method.positions(grid, time), method.geometry)
        for name, values in zip(("cos", "sin"), table, strict=True):
            np.testing.assert_allclose(values, expected[name][index], rtol=0, atol=TABLE_ATOL["flux"])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", SIZES["qwen"])
def test_qwen(rule, size):
    expected, grid = stored(QWEN, rule, size), tuple(map(int, size.split("x")))
    method = load_method("dype", "qwen", [f"rule={rule}", "time=sigma"])
    for index, time in enumerate(QWEN["times"]):
        check_axes(method.positions(grid, time), expected, index, FREQUENCY_RTOL["qwen"])
    for letter, side in zip("hw", grid, strict=True):
        np.testing.assert_array_equal(centred_positions(side)[expected[f"rows_{letter}"]], expected[f"pos_{letter}"])
    for index, time in enumerate(QWEN["table_times"]):
        image = image_table(grid, method.positions(grid, time), method.geometry).reshape(*grid, 64).numpy()
        for letter, values in (("h", image[expected["rows_h"], 0, 8:36]), ("w", image[0, expected["rows_w"], 36:])):
            cis = expected[f"cis_{letter}_re"][index] + 1j * expected[f"cis_{letter}_im"][index]
            np.testing.assert_allclose(values, cis, rtol=0, atol=TABLE_ATOL["qwen"])


def test_every_array_is_compared_or_a_ramp_edge():
    axes = {f"{name}_{axis}" for name in ("freq", "mscale") for axis in "hw"}
    flux = axes | {"ids", "cos", "sin", "edges_h", "edges_w"}
    qwen = axes | {f"{name}_{axis}" for name in ("rows", "pos") for axis in "hw"}
    qwen |= {f"cis_{axis}_{part}" for axis in "hw" for part in ("re", "im")}
    for values, known in ((FLUX, flux), (QWEN, qwen)):
        keys = [key.split("/") for key in values.files]
        assert {key[2] for key in keys if len(key) == 3} == known
        assert {key[0] for key in keys} == {*RULES, "times", "table_times"}


def test_the_rules_differ_and_settle_their_strength():
    product, power = (load_method("dype", overrides=[f"rule={rule}"]) for rule in RULES)
    assert load_method("dype") == product and (product.lambda_s, power.lambda_s) == (1.0, 2.0)
    static = load_method("yarn").positions((256, 256)).height.frequencies
    assert product.positions((256, 256), 1.0).height.frequencies.equal(static)
    ours, theirs = (method.positions((256, 256), 0.5).height.frequencies for method in (product, power))
    assert ((ours - theirs).abs() / ours).max() > 0.5


def test_ntk_has_one_rule():
    with pytest.raises(RequestError, match="base=yarn"):
        load_method("dype", overrides=["base=ntk", "rule=power"])
    with pytest.raises(RequestError, match="did you mean 'power'"):
        load_method("dype", overrides=["rule=powr"])
