"""SEGA on FLUX against its published code: spectra, magnitudes, frequencies and tables of stored latents."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sega import load_method
from sega.formulas.spectrum import band_positions, pair_magnitudes
from sega.models.flux_tables import rotary_table

GOLDEN = Path(__file__).parents[1] / "golden"
VALUES = np.load(GOLDEN / "sega_flux.npz")
BATCH = np.load(GOLDEN / "sega_flux_batch.npz")
SCALARS = np.load(GOLDEN / "sega_scalars.npz")
CASES = sorted({key.split("/")[0] for key in VALUES.files})
FREQUENCY_RTOL, TABLE_ATOL, PROFILE_RTOL = 1e-6, 2e-6, 1e-3
STRENGTH_ATOL, MAGNITUDE_ATOL, MAGNITUDE_FROM_LATENT_ATOL = 1e-3, 2e-4, 1e-3
# The stored values of the paper's formula differ from the code's in amplitude, gain and floor alone.
PAPER = ["variant=paper", "ntk=code", "source=embedded", "band_map=rank"]
PREFIXES = {  # stored prefix of a magnitude -> what the method is asked for
    "": [],
    "paper_": PAPER,
    "exact_": ["binning=exact"],
    "exact_paper_": ["binning=exact", *PAPER],
}


def positions(case, overrides=()):
    stored = {key.split("/")[1]: VALUES[key] for key in VALUES.files if key.startswith(case + "/")}
    method = load_method("sega", model="flux", overrides=overrides)
    grid = tuple(stored["grid"].tolist())
    return stored, method, method.positions(grid, tokens=torch.from_numpy(stored["latents"])[0])


def assert_profile(actual, expected):
    large = expected > 1e-3 * expected.max()
    np.testing.assert_allclose(np.asarray(actual)[large], expected[large], rtol=PROFILE_RTOL)


@pytest.mark.parametrize("case", CASES)
def test_factors_and_frequencies(case):
    stored, _, rope = positions(case)
    assert rope.details["scale"] == pytest.approx((float(stored["s"]),) * 2)
    assert rope.details["ntk_factor"] == pytest.approx((float(stored["ntk_factor"]),) * 2, rel=1e-9)
    assert rope.details["m_ref"] == pytest.approx((float(stored["m_ref"]),) * 2, rel=1e-9)
    np.testing.assert_allclose(rope.height.frequencies, stored["inv_freq_h"], rtol=FREQUENCY_RTOL)
    np.testing.assert_allclose(rope.width.frequencies, stored["inv_freq_w"], rtol=FREQUENCY_RTOL)
    assert rope.stock == (stored["s"] <= 1)


@pytest.mark.parametrize("case", CASES)
def test_tables(case):
    stored, method, rope = positions(case)
    # A table row is magnitude times a cosine, so its error is bounded by that of the magnitude.
    cos, sin = rotary_table(torch.from_numpy(stored["ids"]), rope, method.geometry)
    np.testing.assert_allclose(cos, stored["cos"], rtol=0, atol=MAGNITUDE_FROM_LATENT_ATOL)
    np.testing.assert_allclose(sin, stored["sin"], rtol=0, atol=MAGNITUDE_FROM_LATENT_ATOL)
    np.testing.assert_allclose(cos[:, :16], stored["cos"][:, :16], rtol=0, atol=TABLE_ATOL)


@pytest.mark.parametrize("case", [case for case in CASES if f"{case}/spread" in VALUES.files])
def test_spectra(case):
    stored, _, rope = positions(case)
    exact = positions(case, ["binning=exact"])[2].details
    for axis, name in (("h", "height"), ("w", "width")):
        assert_profile(rope.details[f"profile_{name}"], stored[f"profile_{axis}"])
        assert_profile(exact[f"profile_{name}"], stored[f"exact_profile_{axis}"])
        empty = int((rope.details[f"profile_{name}"] == 0).sum())
        assert empty == stored[f"empty_bins_{axis}"]
        assert int((exact[f"profile_{name}"] == 0).sum()) == 0
    assert_profile(rope.details["profile_radial"], stored["profile_radial"])
    assert rope.details["strength"] == pytest.approx(float(stored["spread"]), abs=STRENGTH_ATOL)
    assert rope.details["flatness"] == pytest.approx(float(stored["flatness"]), abs=STRENGTH_ATOL)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("case", CASES)
def test_magnitudes(case, prefix):
    stored, method, rope = positions(case, PREFIXES[prefix])
    for letter, axis in (("h", rope.height), ("w", rope.width)):
        if f"{prefix}m_{letter}" not in stored:
            assert stored["s"] <= 1 and rope.stock
            continue
        expected = stored[f"{prefix}m_{letter}"]
        np.testing.assert_allclose(axis.magnitudes, expected, rtol=0, atol=MAGNITUDE_FROM_LATENT_ATOL)
        if "spread" in stored:
            key = f"exact_profile_{letter}" if prefix.startswith("exact_") else f"profile_{letter}"
            profile = torch.from_numpy(stored[key])
            given = pair_magnitudes(
                profile,
                band_positions(28, len(profile)),
                float(stored["m_ref"]),
                float(stored["spread"]),
                method.amplitude,
                method.gain,
                method.floor,
            )
            np.testing.assert_allclose(given, expected, rtol=0, atol=MAGNITUDE_ATOL)


def test_every_array_is_compared():
    known = {"latents", "grid", "ids", "cos", "sin", "s", "ntk_factor", "m_ref", "spread", "flatness", "profile_radial"}
    for axis in "hw":
        known |= {f"inv_freq_{axis}", f"profile_{axis}", f"exact_profile_{axis}", f"empty_bins_{axis}"}
        known |= {f"{prefix}m_{axis}" for prefix in PREFIXES}
    assert {key.split("/")[1] for key in VALUES.files} == known


@pytest.mark.parametrize("case", ["joint", "sample0", "sample1"])
def test_batch(case):
    grid, tokens = tuple(BATCH["grid"].tolist()), torch.from_numpy(BATCH["latents"])
    method = load_method("sega", overrides=["batch=joint"] if case == "joint" else [])
    rope = method.positions(grid, tokens=tokens if case == "joint" else tokens[int(case[-1])])
    assert rope.details["strength"] == pytest.approx(float(BATCH[f"{case}/spread"]), abs=STRENGTH_ATOL)
    for letter, axis in (("h", rope.height), ("w", rope.width)):
        expected = BATCH[f"{case}/m_{letter}"]
        np.testing.assert_allclose(axis.magnitudes, expected, rtol=0, atol=MAGNITUDE_FROM_LATENT_ATOL)


@pytest.mark.parametrize("row", range(len(SCALARS["res"])))
def test_scalars(row):
    grid = tuple((SCALARS["res"][row] // 16).tolist())
    flux = load_method("sega", "flux", ["amplitude=0"]).positions(grid).details
    assert flux["ntk_factor"] == pytest.approx((max(SCALARS["flux_ntk"][row], 1.0),) * 2, rel=1e-9)
    assert flux["m_ref"] == pytest.approx((SCALARS["flux_m_ref"][row],) * 2, rel=1e-9)
    qwen = load_method("sega", "qwen", ["amplitude=0"]).positions(grid).details
    assert qwen["ntk_factor"] == pytest.approx(tuple(SCALARS["qwen_ntk_hw"][row]), rel=1e-6)
    assert qwen["m_ref"] == pytest.approx(tuple(SCALARS["qwen_m_ref_hw"][row]), rel=1e-6)
