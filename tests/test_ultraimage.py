"""UltraImage: golden values of its arithmetic, then the method on a small random pipeline."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines import ultraimage
from sega import load_method
from sega.errors import RequestError
from sega.geometry import Geometry, load_geometry
from sega.rope import base_frequencies

VALUES = np.load(Path(__file__).parent / "golden" / "ultraimage.npz")
FREQUENCY_RTOL, FACTOR_ATOL, ATTENTION_ATOL = 1e-6, 1e-5, 1e-5
QWEN = (1.0, 1.3, 0.04, 6.25)
FLUX = (1.1, 1.3, 0.44, 6.0)


def golden(name):
    return torch.from_numpy(np.asarray(VALUES[name]))


def test_periods():
    torch.testing.assert_close(2 * math.pi / base_frequencies(56, 10000), golden("period"), rtol=FREQUENCY_RTOL, atol=0)


def test_focus_factors():
    entropy = golden("entropy")
    for name, constants, power in (
        ("lambda_qwen", QWEN, 2),
        ("lambda_flux", FLUX, 2),
        ("lambda_linear", QWEN, 1),
    ):
        factors = ultraimage.focus_factor(entropy, *constants, power=power, clip=False)
        torch.testing.assert_close(factors.float(), golden(name), rtol=0, atol=FACTOR_ATOL)


def test_clipping_keeps_factors_inside_their_range():
    factors = ultraimage.focus_factor(torch.tensor([0.0, 0.44, 6.0, 9.0]), *FLUX)
    torch.testing.assert_close(factors, torch.tensor([1.3, 1.3, 1.1, 1.1]))


@pytest.mark.parametrize("budget_mb", [1e-6, 0.008, 256])
def test_block_entropies(budget_mb):
    q, k, size = golden("block/q")[0], golden("block/k")[0], int(VALUES["block/size"])
    sums = [
        torch.cat([ultraimage.block_attention(p, size) for p in ultraimage.attention_rows(*head, size, budget_mb)])
        for head in zip(q, k, strict=True)
    ]
    torch.testing.assert_close(torch.stack(sums) * size, golden("block/avg")[0], rtol=0, atol=ATTENTION_ATOL)
    entropies = ultraimage.block_entropies(q, k, size, budget_mb)
    torch.testing.assert_close(entropies, golden("block/entropy")[0], rtol=0, atol=ATTENTION_ATOL)
    heads = ultraimage.head_entropies(q, k, size, budget_mb=budget_mb)
    torch.testing.assert_close(
        ultraimage.focus_factor(heads, *QWEN), golden("block/lambda_per_head")[0], rtol=0, atol=FACTOR_ATOL
    )


def test_padding_is_zero_queries_and_keys():
    q, k = torch.randn(2, 1, 21, 8, generator=torch.Generator().manual_seed(0))
    padded = [torch.nn.functional.pad(x, (0, 0, 0, 3)) for x in (q, k)]
    plain = (padded[0] @ padded[1].transpose(1, 2) / 8**0.5).softmax(-1).view(1, 3, 8, 3, 8).sum((2, 4)) / 8
    expected = -(plain * plain.log()).sum(-1)
    for budget_mb in (1e-6, 0.003, 1):
        torch.testing.assert_close(ultraimage.block_entropies(q, k, 8, budget_mb), expected)


def test_token_entropy():
    q, k = torch.randn(2, 3, 21, 8, generator=torch.Generator().manual_seed(0))
    p = (q @ k.transpose(1, 2) / 8**0.5).softmax(-1)
    expected = -(p * p.log()).sum(-1).mean(-1)
    torch.testing.assert_close(ultraimage.head_entropies(q, k, 8, kind="token", budget_mb=1e-3), expected)


def test_dominant_pairs():
    assert ultraimage.dominant_pairs(load_geometry("flux")) == (9,)
    assert ultraimage.dominant_pairs(load_geometry("qwen")) == (8, 9)
    assert ultraimage.dominant_pairs(load_geometry("tiny")) == (3,)  # T_3 = 16.9 for 16 tokens
    assert ultraimage.dominant_pairs(Geometry("flux", (16, 56, 56), 10000, 128, 128, 16, 512)) == (9,)


@pytest.mark.parametrize("model, name", [("flux", "riflex_k9"), ("qwen", "multi_inter_k8_9")])
def test_corrected_frequencies(model, name):
    length = int(VALUES["riflex_k9/length"])
    rope = load_method("ultraimage", model).positions((length, length))
    for axis in (rope.height, rope.width):
        torch.testing.assert_close(axis.frequencies, golden(f"{name}/freq"), rtol=FREQUENCY_RTOL, atol=0)
        assert (axis.magnitudes == 1).all()
    assert rope.text == "shared" and not rope.stock
    if model == "qwen":
        assert length / load_method("ultraimage", model).geometry.train_tokens == VALUES[f"{name}/linear_factor"]


def test_paper_correction_is_one_turn_an_axis():
    rope = load_method("ultraimage", "qwen", ["correction=paper"]).positions((100, 200))
    assert rope.height.frequencies[[8, 9]].tolist() == [2 * math.pi / 100] * 2
    assert rope.width.frequencies[[8, 9]].tolist() == [2 * math.pi / 200] * 2


@pytest.mark.parametrize(
    "model, grid", [("flux", (64, 64)), ("flux", (40, 90)), ("qwen", (83, 40)), ("qwen", (10, 10)), ("tiny", (16, 16))]
)
def test_no_correction_within_the_training_size(model, grid):
    assert load_method("ultraimage", model).positions(grid).stock


def test_short_axis_keeps_its_base():
    rope = load_method("ultraimage", "flux").positions((64, 128))
    assert torch.equal(rope.height.frequencies, base_frequencies(56, 10000))
    assert rope.width.frequencies[9].item() == pytest.approx(0.85 * 2 * math.pi / 128)
    assert load_method("ultraimage", "flux", ["correction=none"]).positions((128, 128)).stock


def test_pairs_are_checked():
    with pytest.raises(RequestError, match="0 to 27"):
        load_method("ultraimage", "flux", ["pairs=[28]"])
    rope = load_method("ultraimage", "flux", ["pairs=[7,8]", "margin=1"]).positions((128, 128))
    assert rope.width.frequencies[[7, 8]].tolist() == [2 * math.pi / 128] * 2
