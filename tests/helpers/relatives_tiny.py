"""Small random pipelines of FLUX.2 and Z-Image: stock classes, in the folder format of the published checkpoints.

Heads have the published rotary axes; everything else is as small as the classes allow.
"""

from sega.testing.qwen import build_tokenizer

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.content is string %}"
    "{{ message.content }}{% else %}{{ message.content[0].text }}{% endif %}<|im_end|>\n{% endfor %}"
)


def small_geometry(family):
    """The published geometry with a training side of 8 tokens and short text."""
    from sega.methods.geometry import build_geometry

    axes, theta = {"flux2": ((32, 32, 32), 2000), "zimage": ((32, 48, 48), 256)}[family]
    return build_geometry(
        {
            "family": family,
            "axes": axes,
            "theta": theta,
            "train_tokens": 8,
            "sega_train_tokens": 8,
            "token_pixels": 16,
            "text_tokens": 96,
        }
    )


def _tokenizer():
    tokenizer = build_tokenizer("")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _blocks():
    """The encoder and decoder of an autoencoder of factor 8 with 4 latent channels."""
    return {
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [4, 4, 4, 4],
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 2,
    }


def _noisy(transformer):
    """Weights that make every input matter."""
    import torch

    for parameter in transformer.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return transformer.eval()


def build_flux2():
    """One double and one single block; statistics of the latents that differ from channel to channel."""
    import torch
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2Pipeline,
        Flux2Transformer2DModel,
    )
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = _tokenizer()
        text = {
            "model_type": "mistral",
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 30,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "head_dim": 16,
        }
        vision = {
            "model_type": "pixtral",
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 32,
            "patch_size": 16,
        }
        encoder = Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=vision))
        transformer = Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=128,
            num_attention_heads=1,
            joint_attention_dim=48,
            timestep_guidance_channels=16,
        )
        vae = AutoencoderKLFlux2(**_blocks())
        vae.bn.running_mean.copy_(torch.randn(16))
        vae.bn.running_var.copy_(torch.rand(16) + 0.5)
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
        pipe = Flux2Pipeline(scheduler, vae.eval(), encoder.eval(), tokenizer, _noisy(transformer))
    # Its system message is longer than all that is read here.
    pipe.system_message = ""
    pipe.set_progress_bar_config(disable=True)
    return pipe


def build_zimage():
    """One layer, and one refiner of the image and of the text each."""
    import torch
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = _tokenizer()
        encoder = Qwen3Model(
            Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=2,
                num_attention_heads=1,
                num_key_value_heads=1,
                head_dim=16,
            )
        )
        transformer = ZImageTransformer2DModel(
            in_channels=4, dim=128, n_layers=2, n_refiner_layers=1, n_heads=1, n_kv_heads=1, cap_feat_dim=16
        )
        vae = AutoencoderKL(**_blocks(), scaling_factor=0.36, shift_factor=0.12)
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
        pipe = ZImagePipeline(scheduler, vae.eval(), encoder.eval(), tokenizer, _noisy(transformer))
    pipe.set_progress_bar_config(disable=True)
    return pipe


BUILD = {"flux2": build_flux2, "zimage": build_zimage}
