"""UltraImage: golden values of its arithmetic, then the method on a small random pipeline."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import load

from baselines import ultraimage
from baselines.kernels import focus
from sega import attach, load_method
from sega.engine.sampling import generate
from sega.errors import RequestError
from sega.formulas.rope import base_frequencies
from sega.methods.base import Attention
from sega.methods.geometry import Geometry, load_geometry
from sega.methods.types import ImageRequest
from sega.models.flux import image_ids

VALUES = np.load(Path(__file__).parents[1] / "golden" / "ultraimage.npz")
FREQUENCY_RTOL, FACTOR_ATOL, ATTENTION_ATOL = 1e-6, 1e-5, 1e-5
QWEN = (1.0, 1.3, 0.04, 6.25)
PROMPT = "a photo of a red boat"
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
        torch.cat([focus.block_attention(p, size) for p in focus.attention_rows(*head, size, budget_mb)])
        for head in zip(q, k, strict=True)
    ]
    torch.testing.assert_close(torch.stack(sums) * size, golden("block/avg")[0], rtol=0, atol=ATTENTION_ATOL)
    entropies = torch.stack([focus.row_entropies(*head, size, budget_mb) for head in zip(q, k, strict=True)])
    torch.testing.assert_close(entropies, golden("block/entropy")[0], rtol=0, atol=ATTENTION_ATOL)
    heads = focus.head_entropies(q, k, size, budget_mb=budget_mb)
    torch.testing.assert_close(
        ultraimage.focus_factor(heads, *QWEN), golden("block/lambda_per_head")[0], rtol=0, atol=FACTOR_ATOL
    )


def test_padding_is_zero_queries_and_keys():
    q, k = torch.randn(2, 1, 21, 8, generator=torch.Generator().manual_seed(0))
    padded = [torch.nn.functional.pad(x, (0, 0, 0, 3)) for x in (q, k)]
    plain = (padded[0] @ padded[1].transpose(1, 2) / 8**0.5).softmax(-1).view(1, 3, 8, 3, 8).sum((2, 4)) / 8
    expected = -(plain * plain.log()).sum(-1)
    for budget_mb in (1e-6, 0.003, 1):
        torch.testing.assert_close(focus.row_entropies(q[0], k[0], 8, budget_mb)[None], expected)


def test_token_entropy():
    q, k = torch.randn(2, 3, 21, 8, generator=torch.Generator().manual_seed(0))
    p = (q @ k.transpose(1, 2) / 8**0.5).softmax(-1)
    expected = -(p * p.log()).sum(-1).mean(-1)
    torch.testing.assert_close(focus.head_entropies(q, k, 8, kind="token", budget_mb=1e-3), expected)


def test_dominant_pairs():
    assert ultraimage.dominant_pairs(load_geometry("flux")) == (9,)
    assert ultraimage.dominant_pairs(load_geometry("qwen")) == (8, 9)
    assert ultraimage.dominant_pairs(load_geometry("tiny")) == (3,)  # T_3 = 21 for 24 tokens
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
    "model, grid", [("flux", (64, 64)), ("flux", (40, 90)), ("qwen", (83, 40)), ("qwen", (10, 10)), ("tiny", (24, 24))]
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


def picture(pipe, *overrides, size=(256, 256), seed=0, **arguments):
    method = load("ultraimage", "steps=2", "base_steps=2", *overrides)
    return generate(pipe, method, PROMPT, seed=seed, size=size, **({"steps": 2, "guidance": 1.0} | arguments))


def same(a, b):
    return np.array_equal(np.asarray(a.image), np.asarray(b.image))


@pytest.mark.parametrize("mode", ["direct", "guided"])
def test_an_image_depends_on_its_seed_alone(tiny_pipe, mode):
    torch.manual_seed(1)
    first = picture(tiny_pipe, f"mode={mode}")
    torch.manual_seed(2)
    assert same(picture(tiny_pipe, f"mode={mode}"), first)
    assert not same(picture(tiny_pipe, f"mode={mode}", seed=1), first)
    assert not same(picture(tiny_pipe, f"mode={mode}", "focus=false"), first)
    assert np.asarray(first.image).shape == (256, 256, 3)


def test_direct_mode_is_one_stage_and_one_measuring_pass(tiny_pipe):
    made = picture(tiny_pipe)
    assert made.calls == 3
    assert ["probe" in step.details for step in made.steps] == [True, False, False]
    sigma = made.steps[1].sigma, made.steps[2].sigma
    assert sigma == pytest.approx((1.0, 6 * 0.5 / (1 + 5 * 0.5)), abs=1e-3)
    assert picture(tiny_pipe, "focus=false").calls == 2
    assert picture(tiny_pipe, "steps=run", steps=4).calls == 5


@pytest.mark.parametrize("size", [(128, 128), (128, 96), (64, 192)])
def test_the_training_size_is_left_alone(tiny_pipe, size):
    plain = generate(tiny_pipe, load("vanilla"), PROMPT, seed=0, size=size, steps=2, guidance=1.0)
    assert same(picture(tiny_pipe, size=size), plain)


@pytest.mark.parametrize("size", [128, 192])
def test_attached_by_hand(tiny_pipe, size):
    def run():
        generator = torch.Generator().manual_seed(0)
        arguments = {"height": size, "width": size, "num_inference_steps": 2, "max_sequence_length": 24}
        return tiny_pipe([PROMPT, "a photo"], generator=generator, output_type="np", **arguments).images

    plain = run()
    with attach(tiny_pipe, load("ultraimage")) as attachment:
        inside = run()
        assert np.array_equal(run(), inside)
        assert [step.sigma for step in attachment.steps[-2:]] == pytest.approx(
            [1.0, 0.759 if size == 128 else 6 / 7], abs=1e-3
        )
    assert np.array_equal(inside, plain) == (size == 128)
    assert np.array_equal(run(), plain)


def test_focus_measures_without_factors_and_then_applies_them(tiny_pipe):
    """Factors against entropies taken from a model on which nothing but the positions is changed."""
    method, entropies, factors = load("ultraimage", "correction=paper"), [], []

    def sharp(call):  # attention of random weights is all but uniform
        return replace(call, q=20 * call.q)

    class Spy(Attention):
        def attend(self, call):
            call = sharp(call)
            q, k = (call.rotate(x)[0].transpose(0, 1) for x in (call.q, call.k))
            p = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1)
            p = p.unflatten(2, (-1, 8)).sum(3).unflatten(1, (-1, 8)).mean(2)
            entropies.append(-(p * p.log()).sum(-1).mean(-1))
            return super().attend(call)

    class Watched(ultraimage.Focus):
        def factor(self, call):
            factors.append(super().factor(call))
            return factors[-1]

        def attend(self, call):
            return super().attend(sharp(call))

    for part in (Spy(), Watched(method)):
        run_once(tiny_pipe.transformer, method, part)
    layers = len(entropies)
    assert layers == 2 and len(factors) == layers
    expected = ultraimage.focus_factor(torch.stack(entropies), 1.1, 1.3, 0.44, math.log(600 / 8))
    torch.testing.assert_close(torch.cat(factors), expected, rtol=1e-4, atol=1e-5)
    assert len({round(float(value), 4) for value in expected.flatten()}) > 1


def run_once(transformer, method, part):
    object.__setattr__(method, "attention", lambda index, run: part)
    config, generator = transformer.config, torch.Generator().manual_seed(0)
    with attach(transformer, method), torch.no_grad():
        transformer(
            hidden_states=torch.randn(1, 24 * 24, config.in_channels, generator=generator),
            encoder_hidden_states=torch.randn(1, 24, config.joint_attention_dim, generator=generator),
            pooled_projections=torch.zeros(1, config.pooled_projection_dim),
            timestep=torch.ones(1),
            guidance=torch.ones(1),
            img_ids=image_ids((24, 24), "cpu"),
            txt_ids=torch.zeros(24, 3),
        )


def test_paper_constants_span_the_heads():
    method = load("ultraimage", "constants=paper")
    entropies = [torch.tensor([[1.0, 2.0], [0.5, 0.75]]), torch.tensor([[3.0, 2.0], [1.0, 0.5]])]
    factors = torch.stack(method.factors(entropies, (32, 32), 1048))
    torch.testing.assert_close(factors.amin(dim=(0, 2)), torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(factors.amax(dim=(0, 2)), torch.tensor([1.3, 1.3]))
    assert factors[0, 0].tolist() == pytest.approx([1.3, 1.075])


def test_largest_entropy():
    flux, qwen, tiny = (load_method("ultraimage", model) for model in ("flux", "qwen", "tiny"))
    assert flux.block == qwen.block == 128 and tiny.block == 17  # round(128 (576 + 24) / 4608)
    assert flux.largest_entropy((225, 225), 225**2 + 512) == 6.0
    assert qwen.largest_entropy((256, 256), 256**2 + 300) == 6.25
    assert flux.largest_entropy((256, 256), 256**2 + 512) == pytest.approx(math.log(516))
    token = load_method("ultraimage", "flux", ["entropy=token"])
    assert token.largest_entropy((225, 225), 51137) == pytest.approx(math.log(51137))


def test_guided_mode_keeps_imax_stages():
    method = load_method("ultraimage", "flux", ["mode=guided"])
    base, target = method.stages(ImageRequest((4096, 4096), 28, 4.5))
    assert (base.size, base.plain, base.schedule, base.guidance) == ((1024, 1024), True, 3.0, 3.5)
    assert (target.steps, target.guidance, target.schedule, target.windows) == (30, 7.0, 6.0, True)
    assert target.positions.grid == (256, 256) and method.staged and not load_method("ultraimage", "flux").staged


def test_qwen_keeps_the_settings_of_the_run():
    method = load_method("ultraimage", "qwen")
    (stage,) = method.stages(ImageRequest((2048, 2048), 40, 4.0))
    assert (stage.steps, stage.guidance, stage.schedule) == (40, 4.0, "stock")
    assert (method.lambda_min, method.h_min) == (1.0, 0.04)


@pytest.mark.parametrize(
    "override, words", [("steps=0", "steps"), ("guidance=-1", "guidance"), ("block=1.5", "block"), ("mode=x", "mode")]
)
def test_bad_values_are_named(override, words):
    with pytest.raises(RequestError, match=words):
        load_method("ultraimage", "flux", [override])
