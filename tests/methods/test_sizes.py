"""Sizes that are neither square nor native, at a reduced scale with their ratios kept; positions at 5120 px."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import GEOMETRY, load

from sega import attach
from sega.engine.sampling import generate
from sega.methods.registry import METHODS, build_method
from sega.models import adapter_for

PROMPT = "a photo of a red boat"
SIZES = {
    "2048x4096": (128, 256),  # an eighth of the tokens a side, as the training side below
    "6144x2048": (384, 128),
    "3840x2160": (240, 136),
    "1536x640": (96, 40),
}
"""What stands for a size: 1/16 of it in px of a model with tokens of 8 px and a training side of 8 tokens; 2160 px,
an odd number of tokens, becomes 17 of them."""
QUICK = {
    "imax": ["base_steps=2", "steps=2"],
    "hiflow": ["base_steps=3", "steps=[2]"],
    "hrdit": ["base_steps=3", "steps=[2]"],
    "scalediff": ["base_steps=3"],
    "pixelrush": ["base_steps=2"],
    "freescale": ["base_steps=3"],
    "upsample": ["base_steps=2"],
    "ultraimage": ["steps=2"],
}


def small(name):
    """A method for a training side of 8 tokens."""
    return replace(load(name, *QUICK.get(name, ())), geometry=replace(GEOMETRY, train_tokens=8, sega_train_tokens=8))


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_at_every_ratio(tiny_pipe, name, size):
    done = generate(tiny_pipe, small(name), PROMPT, seed=0, size=size, steps=2, guidance=1.0)
    assert done.image.size == size
    pixels = np.asarray(done.image)
    assert pixels.std() > 0
    if name not in ("upsample", "pixelrush"):  # which end with the native image and with a patch
        assert done.steps[-1].grid == (size[1] // 8, size[0] // 8)


@pytest.mark.parametrize("name", ["yarn", "dype"])
def test_an_axis_below_the_training_side_keeps_its_positions(name):
    """1536x640 is longer than the training side one way and shorter the other."""
    rope = load(name).positions((10, 24), 0.9)
    base = load("vanilla").positions((10, 24))
    assert torch.equal(rope.height.frequencies, base.height.frequencies)
    assert not torch.equal(rope.width.frequencies, base.width.frequencies)


@pytest.mark.parametrize("size", [(160, 320), (480, 160), (304, 176), (192, 80)], ids=SIZES)
@pytest.mark.parametrize("name", ["sega", "yarn"])
def test_qwen_at_every_ratio(qwen_pipe, name, size):
    """Tokens of 16 px and a training side of 5 of them; an odd count on one side of two sizes."""
    from sega.testing.qwen import small_geometry

    method = build_method({"name": name}, small_geometry(train=5, sega=5))
    done = generate(qwen_pipe, method, PROMPT, seed=0, size=size, steps=2, guidance=1.0)
    assert done.image.size == size and np.asarray(done.image).std() > 0


@pytest.fixture(scope="module")
def qwen_pipe():
    from sega.testing.qwen import build_pipeline

    return build_pipeline()


def test_positions_at_5120_px_are_exact_in_bfloat16():
    """320 tokens a side: the pipeline's ids, in bfloat16, collide beyond 256; those of the model must not."""
    from diffusers import FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        num_layers=0,
        num_single_layers=0,
        num_attention_heads=1,
        attention_head_dim=64,
        in_channels=16,
        joint_attention_dim=16,
        pooled_projection_dim=8,
        axes_dims_rope=(8, 28, 28),
    ).to(torch.bfloat16)
    ids = FluxPipeline._prepare_latent_image_ids(1, 320, 320, "cpu", torch.bfloat16)
    assert len(ids.float().unique(dim=0)) < 320 * 320
    geometry = replace(GEOMETRY, axes=(8, 28, 28), theta=10000.0, train_tokens=64)
    call = {
        "hidden_states": torch.zeros(1, 320 * 320, 16, dtype=torch.bfloat16),
        "img_ids": ids,
        "encoder_hidden_states": torch.zeros(1, 4, 16, dtype=torch.bfloat16),
        "pooled_projections": torch.zeros(1, 8, dtype=torch.bfloat16),
        "timestep": torch.ones(1, dtype=torch.bfloat16),
        "txt_ids": torch.zeros(4, 3, dtype=torch.bfloat16),
    }
    bound = adapter_for(transformer).bind((), call)
    assert bound["img_ids"].dtype == torch.float32 and len(bound["img_ids"].unique(dim=0)) == 320 * 320
    assert bound["img_ids"][-1].tolist() == [0, 319, 319] and adapter_for(transformer).grid(bound) == (320, 320)
    seen = {}
    for name in ("vanilla", "yarn"):
        method = build_method({"name": name}, geometry)
        with torch.no_grad(), attach(transformer, method) as attachment:
            inner = transformer.pos_embed.rotary
            transformer.pos_embed.rotary = lambda ids, inner=inner, name=name: seen.setdefault(name, inner(ids))
            transformer(**call)
            assert attachment.steps[-1].grid == (320, 320)
        cos, sin = (table[4:] for table in seen[name])
        assert cos.dtype == torch.float32
        # Neighbours beyond 256, equal in bfloat16, differ in the table.
        assert not torch.equal(cos[256], cos[257]) and not torch.equal(sin[256 * 320], sin[257 * 320])
