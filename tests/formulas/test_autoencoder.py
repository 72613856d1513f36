"""Counted operations and bytes of autoencoders against torch's own counters."""

import pytest
import torch
from traffic import Traffic, operations

from sega.formulas.autoencoder import decode_work, encode_work

KL = {
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [16, 32, 48],
    "norm_num_groups": 8,
    "latent_channels": 4,
}
QWEN = {"base_dim": 16, "z_dim": 4, "dim_mult": [1, 2, 4], "temperal_downsample": [False, True], "num_res_blocks": 1}


def build(kind, **more):
    import diffusers

    made = getattr(diffusers, kind)(**(QWEN if kind == "AutoencoderKLQwenImage" else KL), **more).eval()
    if kind == "AutoencoderKLQwenImage":
        made.register_to_config(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    return made, {"_class_name": kind, **made.config}


CASES = [
    ("AutoencoderKL", {"layers_per_block": 1, "mid_block_add_attention": False, "use_quant_conv": False}),
    ("AutoencoderKL", {"layers_per_block": 2, "use_post_quant_conv": False}),
    ("AutoencoderKLFlux2", {}),
    ("AutoencoderKLQwenImage", {}),
]


@torch.no_grad()
@pytest.mark.parametrize("way", ["decode", "encode"])
@pytest.mark.parametrize(("kind", "more"), CASES)
def test_operations_are_those_that_torch_counts(kind, more, way):
    vae, config = build(kind, **more)
    frames = (1,) if kind == "AutoencoderKLQwenImage" else ()
    image, latent = torch.randn(1, 3, *frames, 48, 64), torch.randn(1, 4, *frames, 12, 16)
    work = {"decode": decode_work, "encode": encode_work}[way](config, (64, 48), 4)

    def run():
        getattr(vae, way)(image if way == "encode" else latent)

    with operations() as counter:
        run()
    assert work.operations == counter.get_total_flops()
    with Traffic() as traffic:
        run()
    weights = 4 * sum(p.numel() for p in getattr(vae, way + "r").parameters())
    # Norms and padding of Qwen-Image's autoencoder are many small kernels.
    near = 0.2 if kind == "AutoencoderKLQwenImage" else 0.02
    assert work.traffic == pytest.approx(traffic.bytes - weights, rel=near)


def test_other_classes_are_not_counted():
    assert decode_work({"_class_name": "AutoencoderDC"}, (64, 64), 4) is encode_work({}, (64, 64), 4) is None
