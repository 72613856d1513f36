"""Frequencies of the direct methods, and the tables made from them against the stock ones."""

import math

import pytest
import torch

from sega import load_method
from sega.formulas import rope
from sega.methods.geometry import load_geometry
from sega.models.flux_tables import rotary_table
from sega.models.qwen_tables import centred_positions, image_table, text_table

D, THETA, N0 = 56, 10000.0, 64
BASE = rope.base_frequencies(D, THETA)


def grid_ids(height, width, text=3, start=(0, 0)):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([torch.zeros(height * width), rows.flatten() + start[0], columns.flatten() + start[1]], dim=1)
    return torch.cat([torch.zeros(text, 3), image]).float()


def test_pi_divides_and_ntk_ends_where_pi_does():
    torch.testing.assert_close(rope.pi(D, THETA, 3.0), BASE / 3)
    ntk = rope.ntk(D, THETA, 3.0)
    assert ntk[0] == BASE[0]
    assert float(ntk[-1]) == pytest.approx(float(BASE[-1]) / 3, rel=1e-12)


def test_ramps_of_the_published_settings():
    flux, wide = rope.ramp(D, THETA, 64, 1.25, 0.75), rope.ramp(D, THETA, 64, 16, 2)
    assert flux[6] == 0 and flux[7] == 0.5 and flux[8] == 1
    assert wide[0] == 0 and wide[5] == 1
    qwen, wide = rope.ramp(D, THETA, 83, 1.25, 0.75), rope.ramp(D, THETA, 83, 16, 2)
    assert qwen[7] == 0 and qwen[9] == 1 and 0 < qwen[8] < 1
    assert wide[0] == 0 and wide[6] == 1 and wide[5] < 1


def test_yarn_keeps_fast_pairs_and_interpolates_slow_ones():
    values = rope.yarn_image(D, THETA, 4.0, N0)
    assert values[0] == BASE[0]
    torch.testing.assert_close(values[8:], BASE[8:] / 4)
    assert (values <= BASE).all() and (values >= BASE / 4 - 1e-15).all()


def test_yarn_of_language_models_follows_turns():
    values = rope.yarn_llm(D, THETA, 4.0, 1024)
    turns = 1024 * BASE / (2 * math.pi)
    assert torch.equal(values[turns >= 32], BASE[turns >= 32])
    torch.testing.assert_close(values[turns <= 1], BASE[turns <= 1] / 4)
    middle = (turns > 1) & (turns < 32)
    keep = (turns[middle] - 1) / 31
    torch.testing.assert_close(values[middle], keep * BASE[middle] + (1 - keep) * BASE[middle] / 4)


def test_dype_starts_as_its_base_and_ends_at_the_model():
    torch.testing.assert_close(rope.dype_yarn(D, THETA, 4.0, N0, 1.0), rope.yarn_image(D, THETA, 4.0, N0))
    assert torch.equal(rope.dype_yarn(D, THETA, 4.0, N0, 0.0), BASE)
    assert rope.dype_ntk_factor(4.0, D, 1.0) == pytest.approx(rope.ntk_factor(4.0, D) ** 2)
    assert rope.dype_ntk_factor(4.0, D, math.sqrt(0.5)) == pytest.approx(rope.ntk_factor(4.0, D))
    assert rope.dype_ntk_factor(4.0, D, 0.0) == 1


def test_dype_below_its_last_step_interpolates_the_slowest_pairs():
    # At sigma = 0.02 the ends of the inner ramp have swapped, which makes it the constant 1: PI, not NTK.
    assert (rope.ramp(D, THETA, N0, 1.25 * 0.02**2, 0.75 * 0.02**2) == 1).all()
    outer = rope.ramp(D, THETA, N0, 16 * 0.02**2, 2 * 0.02**2)
    values = rope.dype_yarn(D, THETA, 4.0, N0, 0.02)
    torch.testing.assert_close(values, outer * BASE / 4 + (1 - outer) * BASE)
    assert values[-1] < BASE[-1] and values[0] == BASE[0]


def test_sega_factor_is_about_the_square_of_ntk():
    assert [round(rope.sega_ntk_factor(r, D), 2) for r in (1, 2, 4, 6)] == [1, 3.94, 15.57, 34.86]
    assert rope.sega_ntk_factor(4.0, D, "plain") == rope.ntk_factor(4.0, D)
    assert rope.sega_ntk_factor(0.5, D) == 1


@pytest.mark.parametrize("model", ["flux", "tiny"])
def test_flux_table_of_base_positions_is_the_stock_one(model):
    from diffusers.models.transformers.transformer_flux import FluxPosEmbed

    geometry = load_geometry(model)
    ids = grid_ids(7, 9)
    stock = FluxPosEmbed(theta=geometry.theta, axes_dim=list(geometry.axes))(ids)
    ours = rotary_table(ids, load_method("vanilla", model).positions((7, 9)), geometry)
    assert torch.equal(ours[0], stock[0]) and torch.equal(ours[1], stock[1])


@pytest.mark.parametrize("grid", [(6, 10), (7, 5)])
def test_qwen_tables_of_base_positions_are_the_stock_ones(grid):
    from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope

    geometry = load_geometry("qwen")
    stock = QwenEmbedRope(theta=10000, axes_dim=list(geometry.axes), scale_rope=True)
    image, text = stock([[(1, *grid)]], max_txt_seq_len=5, device=torch.device("cpu"))
    rope_ = load_method("vanilla", "qwen").positions(grid)
    torch.testing.assert_close(image_table(grid, rope_, geometry), image, rtol=0, atol=1e-5)
    torch.testing.assert_close(text_table(grid, 5, rope_, geometry), text, rtol=0, atol=1e-5)


def test_qwen_text_keeps_its_own_table_unless_shared():
    geometry = load_geometry("qwen")
    base = text_table((128, 128), 4, load_method("vanilla", "qwen").positions((128, 128)), geometry)
    yarn = load_method("yarn", "qwen").positions((128, 128))
    assert yarn.text == "base"
    assert torch.equal(text_table((128, 128), 4, yarn, geometry), base)
    sega = load_method("sega", "qwen", ["amplitude=0"]).positions((128, 128))
    shared = text_table((128, 128), 4, sega, geometry)
    assert sega.text == "shared"
    torch.testing.assert_close(shared[:, 8:].abs(), torch.full((4, 56), 2**0.08), rtol=1e-6, atol=0)
    assert torch.equal(shared[:, :8], base[:, :8])


def test_qwen_positions_are_centred():
    assert centred_positions(5).tolist() == [-3, -2, -1, 0, 1]
    assert centred_positions(4).tolist() == [-2, -1, 0, 1]


def test_magnitudes_scale_text_on_flux_and_leave_the_frame_axis():
    geometry = load_geometry("flux")
    yarn = load_method("yarn").positions((128, 64))
    cos, sin = rotary_table(grid_ids(2, 2), yarn, geometry)
    assert (cos[0, :16] == 1).all() and (sin[0] == 0).all()
    torch.testing.assert_close(cos[0, 16:72], torch.full((56,), 1 + 0.1 * math.log(2)))
    assert (cos[0, 72:] == 1).all()
