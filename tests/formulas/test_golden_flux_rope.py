"""FLUX rotary values of the direct methods against those of their published code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sega import load_method
from sega.formulas import rope
from sega.models.flux_tables import rotary_table

VALUES = np.load(Path(__file__).parents[1] / "golden" / "flux_rope.npz")
CASES = sorted({key.rsplit("/", 1)[0] for key in VALUES.files if not key.endswith("/ids")})
ARRAYS = {"ids", "cos", "sin"} | {f"{name}_{axis}" for name in ("freq", "ntk_factor", "mscale") for axis in "hw"}
FREQUENCY_RTOL, TABLE_ATOL, MAGNITUDE_RTOL = 1e-6, 2e-6, 1e-6
LOADED = {
    "base": ("vanilla", []),
    "dype_ntk": ("dype", ["base=ntk"]),
    "dype_yarn": ("dype", ["base=yarn"]),
}


def parse(case):
    name, size, *time = case.split("/")
    height, width = map(int, size.split("x"))
    return name, (height, width), float(time[0][1:]) if time else 1.0


def ntk_factor(name, side, sigma):
    scale = side / 64
    if scale <= 1:
        return 1.0
    return {
        "ntk": lambda: rope.ntk_factor(scale, 56),
        "dype_ntk": lambda: rope.dype_ntk_factor(scale, 56, sigma),
    }.get(name, lambda: 1.0)()


@pytest.mark.parametrize("case", CASES)
def test_positions_and_tables(case):
    name, grid, sigma = parse(case)
    stored = {key.rsplit("/", 1)[1]: VALUES[key] for key in VALUES.files if key.rsplit("/", 1)[0] == case}
    assert set(stored) <= ARRAYS
    method_name, overrides = LOADED.get(name, (name, []))
    method = load_method(method_name, model="flux", overrides=overrides)
    result = method.positions(grid, sigma)
    for axis, letter, side in ((result.height, "h", grid[0]), (result.width, "w", grid[1])):
        if f"freq_{letter}" in stored:
            np.testing.assert_allclose(axis.frequencies, stored[f"freq_{letter}"], rtol=FREQUENCY_RTOL)
            np.testing.assert_allclose(axis.magnitudes, np.full(28, stored[f"mscale_{letter}"]), rtol=MAGNITUDE_RTOL)
            expected = float(stored[f"ntk_factor_{letter}"])
            assert ntk_factor(name, side, sigma) == pytest.approx(expected, rel=1e-9)

    ids = torch.from_numpy(stored["ids"] if "ids" in stored else VALUES[f"base/{grid[0]}x{grid[1]}/ids"])
    cos, sin = rotary_table(ids, result, method.geometry)
    np.testing.assert_allclose(cos, stored["cos"], rtol=0, atol=TABLE_ATOL)
    np.testing.assert_allclose(sin, stored["sin"], rtol=0, atol=TABLE_ATOL)


def test_every_array_belongs_to_a_case():
    assert {parse(case)[0] for case in CASES} == {"vanilla", "base", "pi", "ntk", "yarn", "dype_ntk", "dype_yarn"}
    assert all(key.rsplit("/", 1)[0] in CASES or key.endswith("/ids") for key in VALUES.files)
