"""Floating-point operations of one transformer call, counted from its config: no weights, no torch.

Matrix products only, a multiplication and an addition each, with dense attention: what torch's own counter gives for
the stock classes.
"""

from __future__ import annotations

from typing import Any

TIME = 256  # channels of the sinusoidal embedding of the time


def call_flops(config: dict[str, Any], image: int, text: int) -> int | None:
    """Of one sample with this many image and text tokens; None for a class that is not counted."""
    count = COUNTED.get(str(config.get("_class_name")))
    return None if count is None else 2 * count(config, image, text)


def _flux(config: dict[str, Any], image: int, text: int) -> int:
    width = config["num_attention_heads"] * config["attention_head_dim"]
    both, doubles, singles = image + text, config["num_layers"], config["num_single_layers"]
    # Width**2 weights a token: 3 for q, k, v, 1 for the output, 8 for the two feed-forward layers; a single block has
    # 7 into its parallel branches and 5 out of them. Modulations are computed once a sample.
    blocks = doubles * (12 * both + 12) + singles * (12 * both + 3)
    attention = 2 * both * both * width * (doubles + singles)
    embedded = (image * (config["in_channels"] + _out(config)) + text * config["joint_attention_dim"]) * width
    times = (TIME + width) * width * (2 if config["guidance_embeds"] else 1)
    pooled = (config["pooled_projection_dim"] + width) * width
    total: int = blocks * width**2 + attention + embedded + times + pooled + 2 * width**2
    return total


def _qwen(config: dict[str, Any], image: int, text: int) -> int:
    width, layers = config["num_attention_heads"] * config["attention_head_dim"], config["num_layers"]
    both = image + text
    blocks = layers * (12 * both + 12)
    attention = 2 * both * both * width * layers
    out = config["out_channels"] * config["patch_size"] ** 2
    embedded = (image * (config["in_channels"] + out) + text * config["joint_attention_dim"]) * width
    total: int = blocks * width**2 + attention + embedded + (TIME + width) * width + 2 * width**2
    return total


def _flux2(config: dict[str, Any], image: int, text: int) -> int:
    width = config["num_attention_heads"] * config["attention_head_dim"]
    both, blocks = image + text, config["num_layers"] + config["num_single_layers"]
    # Gated feed-forward layers: 2 m into them and m out. Modulations are shared by all blocks of a kind: 6, 6 and 3.
    layers = both * blocks * (4 + 3 * config["mlp_ratio"]) + 15
    attention = 2 * both * both * width * blocks
    embedded = (image * (config["in_channels"] + _out(config)) + text * config["joint_attention_dim"]) * width
    times = (config["timestep_guidance_channels"] + width) * width * (2 if config["guidance_embeds"] else 1)
    total: int = int(layers * width**2) + attention + embedded + times + 2 * width**2
    return total


def _zimage(config: dict[str, Any], image: int, text: int) -> int:
    width, refiners = config["dim"], config["n_refiner_layers"]
    image, text = (-(-tokens // 32) * 32 for tokens in (image, text))
    inner, embedding, channels = int(width / 3 * 8), min(width, 256), config["in_channels"] * 4
    total: int = 0
    for tokens, layers, modulated in (
        (image, refiners, True),
        (text, refiners, False),
        (image + text, config["n_layers"], True),
    ):
        block = tokens * (4 * width**2 + 3 * width * inner) + 2 * tokens**2 * width
        total += layers * (block + modulated * 4 * embedding * width)
    ends = image * channels * width + text * config["cap_feat_dim"] * width + (image + text) * width * channels
    total += ends + embedding * width + TIME * 1024 + 1024 * embedding
    return total


def _out(config: dict[str, Any]) -> int:
    values: int = (config.get("out_channels") or config["in_channels"]) * config.get("patch_size", 1) ** 2
    return values


COUNTED = {
    "FluxTransformer2DModel": _flux,
    "Flux2Transformer2DModel": _flux2,
    "QwenImageTransformer2DModel": _qwen,
    "ZImageTransformer2DModel": _zimage,
}
