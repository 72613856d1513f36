"""A small random `QwenImagePipeline` of stock classes, in the folder format of the published checkpoint.

Heads have the published rotary axes, so that tables can be compared with the golden ones; everything else is as small
as the classes allow. `python -m sega.testing.qwen <folder>` writes one.
"""

import json
import sys

AXES = (16, 56, 56)
WORDS = "a photo of a red boat in the sea under a blue sky, a house on the sand at night"


def small_geometry(train=10, sega=8, text=64):
    """The published geometry with a smaller training side, in tokens: of all methods, and of SEGA."""
    from sega.methods.geometry import build_geometry

    return build_geometry(
        {
            "family": "qwen",
            "axes": AXES,
            "theta": 10000,
            "train_tokens": train,
            "sega_train_tokens": sega,
            "token_pixels": 16,
            "text_tokens": text,
        }
    )


def build_tokenizer(template: str):
    """Byte-level pairs learned on the words of the prompt template: its head then has the published 34 tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=1000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=marks, show_progress=False
    )
    for mark in marks:
        template = template.replace(mark, "")
    learned.train_from_iterator([template, "system", "user", "assistant", WORDS], trainer)
    model = json.loads(learned.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return Qwen2Tokenizer(vocab=model["vocab"], merges=merges, extra_special_tokens=marks[1:])


def build_text_encoder(words: int, width: int = 32):
    """A Qwen2.5-VL with one layer in each part."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "use_sliding_window": False,
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": width,
        "fullatt_block_indexes": [0],
    }
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))


def build_autoencoder():
    """Factor 8; 4 latent channels, each with a mean and a deviation."""
    from diffusers import AutoencoderKLQwenImage

    return AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 2, 2],
        num_res_blocks=1,
        latents_mean=[-0.5, 0.1, 0.9, -0.2],
        latents_std=[2.8, 1.4, 2.3, 0.9],
    )


def build_transformer(width: int = 32, layers: int = 2, heads: int = 1):
    """One head of the published 128 dimensions."""
    from diffusers import QwenImageTransformer2DModel

    return QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=layers,
        attention_head_dim=sum(AXES),
        num_attention_heads=heads,
        joint_attention_dim=width,
        axes_dims_rope=AXES,
    )


def build_scheduler():
    """The constants of the published checkpoint."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=1.0,
        use_dynamic_shifting=True,
        time_shift_type="exponential",
        base_shift=0.5,
        max_shift=0.9,
        base_image_seq_len=256,
        max_image_seq_len=8192,
        shift_terminal=0.02,
    )


def build_pipeline(seed: int = 0):
    """The pipeline, with weights that make every input matter."""
    import torch
    from diffusers import QwenImagePipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer, vae = build_transformer(), build_autoencoder()
        pipe = QwenImagePipeline(build_scheduler(), vae.eval(), None, None, transformer.eval())
        tokenizer = build_tokenizer(pipe.prompt_template_encode)
        pipe.register_modules(tokenizer=tokenizer, text_encoder=build_text_encoder(len(tokenizer)).eval())
        for parameter in transformer.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    pipe.set_progress_bar_config(disable=True)
    return pipe


if __name__ == "__main__":
    build_pipeline().save_pretrained(sys.argv[1], safe_serialization=True)
