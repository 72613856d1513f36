"""Counted bytes of a transformer call against those of the kernels that torch runs."""

import pytest
import torch
from traffic import Traffic

from sega.formulas.flops import call_work, read_call

IMAGE, TEXT, HEADS, DIM = 960, 256, 4, 128


def flux(**layers):
    from diffusers import FluxTransformer2DModel

    shape = {"in_channels": 32, "joint_attention_dim": 40, "pooled_projection_dim": 12, "guidance_embeds": True}
    heads = {"num_attention_heads": HEADS, "attention_head_dim": DIM}
    one = torch.ones(1)
    return FluxTransformer2DModel(**heads, **shape, **layers), {
        "hidden_states": torch.randn(1, IMAGE, 32),
        "encoder_hidden_states": torch.randn(1, TEXT, 40),
        "pooled_projections": torch.randn(1, 12),
        "timestep": one,
        "img_ids": torch.zeros(IMAGE, 3),
        "txt_ids": torch.zeros(TEXT, 3),
        "guidance": one,
    }


def flux2(**layers):
    from diffusers import Flux2Transformer2DModel

    shape = {"in_channels": 16, "joint_attention_dim": 48, "timestep_guidance_channels": 16}
    heads = {"num_attention_heads": HEADS, "attention_head_dim": DIM}
    return Flux2Transformer2DModel(**heads, **shape, **layers), {
        "hidden_states": torch.randn(1, IMAGE, 16),
        "encoder_hidden_states": torch.randn(1, TEXT, 48),
        "timestep": torch.ones(1),
        "guidance": torch.ones(1),
        "img_ids": torch.zeros(IMAGE, 4),
        "txt_ids": torch.zeros(TEXT, 4),
    }


def qwen(**layers):
    from diffusers import QwenImageTransformer2DModel

    shape = {"in_channels": 32, "out_channels": 8, "joint_attention_dim": 40}
    heads = {"num_attention_heads": HEADS, "attention_head_dim": DIM}
    return QwenImageTransformer2DModel(**heads, **shape, **layers), {
        "hidden_states": torch.randn(1, IMAGE, 32),
        "encoder_hidden_states": torch.randn(1, TEXT, 40),
        "timestep": torch.ones(1),
        "img_shapes": [[(1, 30, 32)]],
    }


def zimage(**layers):
    from diffusers import ZImageTransformer2DModel

    shape = {"in_channels": 4, "dim": HEADS * DIM, "n_heads": HEADS, "n_kv_heads": HEADS, "cap_feat_dim": 16}
    return ZImageTransformer2DModel(**shape, **layers), {
        "x": [torch.randn(4, 1, 60, 64)],
        "t": torch.zeros(1),
        "cap_feats": [torch.randn(TEXT, 16)],
    }


CASES = [
    (flux, {"num_layers": 4, "num_single_layers": 0}),
    (flux, {"num_layers": 0, "num_single_layers": 4}),
    (flux2, {"num_layers": 2, "num_single_layers": 3}),
    (flux2, {"num_layers": 3, "num_single_layers": 2, "mlp_ratio": 6.0}),
    (qwen, {"num_layers": 4}),
    (zimage, {"n_layers": 4, "n_refiner_layers": 1}),
]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("build", "layers"), CASES)
def test_bytes_are_those_of_the_kernels(build, layers, dtype):
    """Within 4 %, most of it outside the blocks, of which there are few here."""
    torch.set_default_dtype(dtype)
    try:
        transformer, call = build(**layers)
    finally:
        torch.set_default_dtype(torch.float32)
    transformer.eval()
    transformer(**call)  # tables that are made once
    with Traffic() as traffic:
        transformer(**call)
    counted = read_call({"_class_name": type(transformer).__name__, **transformer.config}, IMAGE, TEXT)
    work = call_work(counted, dtype.itemsize, sum(p.numel() for p in transformer.parameters()))
    assert work.traffic == pytest.approx(traffic.bytes, rel=0.04)
    assert work.kernels == pytest.approx(traffic.kernels, rel=0.4)
