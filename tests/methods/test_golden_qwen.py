"""Qwen-Image's rotary values and tables, plain, with DyPE and with SEGA, against those of the published code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sega import load_method
from sega.models.qwen_tables import centred_positions, image_table, text_table

GOLDEN = Path(__file__).parents[1] / "golden"
ROPE = np.load(GOLDEN / "qwen_rope.npz")
SEGA = np.load(GOLDEN / "sega_qwen.npz")
ROPE_CASES = sorted({key.rsplit("/", 1)[0] for key in ROPE.files if key.endswith("/freq_h")})
SEGA_CASES = sorted({key.split("/")[0] for key in SEGA.files})
FREQUENCY_RTOL, TABLE_ATOL, PROFILE_RTOL = 1e-5, 1e-4, 1e-3
STRENGTH_ATOL, MAGNITUDE_ATOL, SEGA_TABLE_ATOL = 1e-3, 1e-3, 1e-3


def part(stored, name):
    return stored[f"{name}_re"] + 1j * stored[f"{name}_im"]


def check_tables(stored, grid, rope, geometry, rows_h, rows_w, atol):
    image = image_table(grid, rope, geometry).reshape(*grid, 64).numpy()
    np.testing.assert_allclose(image[rows_h, 0, 8:36], part(stored, "cis_h"), rtol=0, atol=atol)
    np.testing.assert_allclose(image[0, rows_w, 36:], part(stored, "cis_w"), rtol=0, atol=atol)
    assert (image[..., :8] == 1).all()
    if "txt_re" in stored:
        text = text_table(grid, len(stored["txt_re"]), rope, geometry).numpy()
        np.testing.assert_allclose(text, part(stored, "txt"), rtol=0, atol=atol)


@pytest.mark.parametrize("case", ROPE_CASES)
def test_vanilla_and_dype(case):
    name, size, *time = case.split("/")
    grid, sigma = tuple(map(int, size.split("x"))), float(time[0][1:]) if time else 1.0
    stored = {key.rsplit("/", 1)[1]: ROPE[key] for key in ROPE.files if key.rsplit("/", 1)[0] == case}
    method = load_method("dype", "qwen", ["time=sigma"]) if name == "dype_yarn" else load_method(name, "qwen")
    rope = method.positions(grid, sigma)
    for letter, axis in (("h", rope.height), ("w", rope.width)):
        np.testing.assert_allclose(axis.frequencies, stored[f"freq_{letter}"], rtol=FREQUENCY_RTOL)
        np.testing.assert_allclose(axis.magnitudes, np.full(28, stored[f"mscale_{letter}"]), rtol=FREQUENCY_RTOL)
    rows = {key: ROPE[f"vanilla/{size}/{key}"] for key in ("rows_h", "rows_w", "pos_h", "pos_w")}
    rows |= {key: stored[key] for key in rows if key in stored}
    np.testing.assert_array_equal(centred_positions(grid[0])[rows["rows_h"]], rows["pos_h"])
    np.testing.assert_array_equal(centred_positions(grid[1])[rows["rows_w"]], rows["pos_w"])
    if "cis_f_re" in stored:
        assert (stored["cis_f_re"] == 1).all()
    check_tables(stored, grid, rope, method.geometry, rows["rows_h"], rows["rows_w"], TABLE_ATOL)


def test_static_yarn_is_dype_at_the_first_step():
    yarn = load_method("yarn", "qwen").positions((128, 256))
    np.testing.assert_allclose(yarn.width.frequencies, ROPE["dype_yarn/128x256/t1.0/freq_w"], rtol=FREQUENCY_RTOL)


def test_dype_as_run_uses_the_time_of_the_published_code():
    as_run, method = load_method("dype", "qwen"), load_method("dype", "qwen", ["time=sigma"])
    assert (as_run.time, as_run.schedule, method.schedule) == ("as_run", "stock", "pinned")
    for sigma, time in zip(ROPE["as_run/sigma"], ROPE["as_run/t_effective"], strict=True):
        expected = method.positions((256, 256), time).height.frequencies
        torch.testing.assert_close(as_run.positions((256, 256), sigma).height.frequencies, expected)


@pytest.mark.parametrize("case", SEGA_CASES)
def test_sega(case):
    stored = {key.split("/")[1]: SEGA[key] for key in SEGA.files if key.startswith(case + "/")}
    grid, tokens = tuple(stored["grid"].tolist()), torch.from_numpy(stored["latents"])[0]
    method = load_method("sega", "qwen")
    rope = method.positions(grid, tokens=tokens)
    assert rope.text == "shared"
    assert rope.details["ntk_factor"] == pytest.approx((float(stored["ntk_h"]), float(stored["ntk_w"])), rel=1e-6)
    np.testing.assert_allclose(rope.height.frequencies, stored["inv_freq_h"], rtol=FREQUENCY_RTOL)
    np.testing.assert_allclose(rope.width.frequencies, stored["inv_freq_w"], rtol=FREQUENCY_RTOL)
    magnitudes = torch.cat([torch.ones(8, dtype=torch.float64), rope.height.magnitudes, rope.width.magnitudes])
    np.testing.assert_allclose(magnitudes, stored["mscale_full"], rtol=0, atol=MAGNITUDE_ATOL)
    check_tables(stored, grid, rope, method.geometry, stored["rows_h"], stored["rows_w"], SEGA_TABLE_ATOL)
    if "spread" not in stored:
        assert rope.stock
        return
    np.testing.assert_allclose(rope.height.magnitudes, stored["m_h"], rtol=0, atol=MAGNITUDE_ATOL)
    np.testing.assert_allclose(rope.width.magnitudes, stored["m_w"], rtol=0, atol=MAGNITUDE_ATOL)
    untied = load_method("sega", "qwen", ["tie_axes=false"]).positions(grid, tokens=tokens)
    np.testing.assert_allclose(untied.height.magnitudes, stored["m_h_untied"], rtol=0, atol=MAGNITUDE_ATOL)
    for key, name in (("h", "height"), ("w", "width"), ("radial", "radial")):
        expected, actual = stored[f"profile_{key}"], rope.details[f"profile_{name}"].numpy()
        large = expected > 1e-3 * expected.max()
        np.testing.assert_allclose(actual[large], expected[large], rtol=PROFILE_RTOL)
    assert rope.details["strength"] == pytest.approx(float(stored["spread"]), abs=STRENGTH_ATOL)
    assert rope.details["flatness"] == pytest.approx(float(stored["flatness"]), abs=STRENGTH_ATOL)


def test_every_array_belongs_to_a_case():
    assert {key.rsplit("/", 1)[0] for key in ROPE.files} == {*ROPE_CASES, "as_run"}
    known = {"latents", "grid", "rows_h", "rows_w", "ntk_h", "ntk_w", "mscale_full", "m_h_untied", "profile_radial"}
    known |= {"spread", "flatness"} | {f"txt_{p}" for p in ("re", "im")}
    known |= {f"{name}_{axis}" for name in ("inv_freq", "profile", "m") for axis in "hw"}
    known |= {f"cis_{axis}_{p}" for axis in "hw" for p in ("re", "im")}
    assert {key.split("/")[1] for key in SEGA.files} == known
