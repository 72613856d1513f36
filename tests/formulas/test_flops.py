"""Counted operations against torch's own counter, at published widths and at odd ones."""

import pytest
import torch
from doubles import Table
from torch.utils.flop_counter import FlopCounterMode

from sega.formulas.flops import call_flops


def counted(transformer, **call):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        transformer(**call)
    return counter.get_total_flops()


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize(("heads", "dim", "double", "single"), [(24, 128, 1, 2), (2, 16, 2, 1)])
def test_flux(heads, dim, double, single, guided):
    from diffusers import FluxTransformer2DModel

    image, text = 96, 24
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(
            num_layers=double,
            num_single_layers=single,
            num_attention_heads=heads,
            attention_head_dim=dim,
            in_channels=32,
            joint_attention_dim=40,
            pooled_projection_dim=12,
            guidance_embeds=guided,
        )
        transformer.pos_embed = Table(torch.empty(image + text, dim), torch.empty(image + text, dim))
        one = torch.empty(1)
        total = counted(
            transformer,
            hidden_states=torch.empty(1, image, 32),
            encoder_hidden_states=torch.empty(1, text, 40),
            pooled_projections=torch.empty(1, 12),
            timestep=one,
            img_ids=torch.empty(image, 3),
            txt_ids=torch.empty(text, 3),
            guidance=one if guided else None,
        )
    assert call_flops(dict(transformer.config) | {"_class_name": "FluxTransformer2DModel"}, image, text) == total


@pytest.mark.parametrize(("heads", "dim", "layers"), [(24, 128, 2), (2, 16, 3)])
def test_qwen(heads, dim, layers):
    from diffusers import QwenImageTransformer2DModel

    text = 24
    with torch.device("meta"):
        transformer = QwenImageTransformer2DModel(
            num_layers=layers,
            num_attention_heads=heads,
            attention_head_dim=dim,
            joint_attention_dim=40,
            in_channels=32,
            out_channels=8,
        )
        tables = (torch.empty(n, dim // 2, dtype=torch.complex64) for n in (96, text))
        transformer.pos_embed = Table(*tables)
        total = counted(
            transformer,
            hidden_states=torch.empty(1, 96, 32),
            encoder_hidden_states=torch.empty(1, text, 40),
            timestep=torch.empty(1),
            img_shapes=[[(1, 8, 12)]],
        )
    assert call_flops(dict(transformer.config) | {"_class_name": "QwenImageTransformer2DModel"}, 96, text) == total


def test_other_classes_are_not_counted():
    assert call_flops({"_class_name": "SD3Transformer2DModel"}, 16, 4) is None
    assert call_flops({}, 16, 4) is None
