"""Operations and bytes of one transformer call, counted from its config: no weights, no torch.

Operations are matrix products, a multiplication and an addition each: with dense attention what torch's own counter
gives for the stock classes. Bytes are those of every tensor that the stock classes read or write, kernel by kernel and
without fusion, so that each block has a number of vectors of the model's width for each token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sega.formulas.work import MAP_PASSES, Attended, Work, dense

TIME = 256  # channels of the sinusoidal embedding of the time
NORMS = 59  # vectors a token that the norms and rotations of a block of FLUX read and write in float32
ENDS = 8  # vectors a token outside the blocks: embedding, last norm and modulation
KERNELS = 84  # launched outside the blocks


@dataclass(frozen=True)
class Call:
    """One call of one sample. Attention of the joint sequence is apart, since methods change it."""

    products: int  # multiplications in dense layers
    width: int
    heads: int
    length: int  # tokens of the joint sequence
    layers: int  # with attention of the joint sequence
    own: float  # elements that are read and written in the dtype of the model, without attention and weights
    single: float  # those in float32
    kernels: int
    refined: int = 0  # multiplications of attention within image or text alone, which no method changes


def call_flops(config: dict[str, Any], image: int, text: int) -> int | None:
    """Of one sample with this many image and text tokens; None for a class that is not counted."""
    call = read_call(config, image, text)
    return None if call is None else 2 * (call.products + call.refined + 2 * call.layers * call.length**2 * call.width)


def read_call(config: dict[str, Any], image: int, text: int) -> Call | None:
    """The call of a transformer with this config; None for a class that is not counted."""
    count = COUNTED.get(str(config.get("_class_name")))
    return None if count is None else count(config, image, text)


def call_work(call: Call, itemsize: int, parameters: int, attended: Attended | None = None) -> Work:
    """The work of a call in a dtype of `itemsize` bytes, whose `parameters` are read once.

    `attended` is what its layers attend to, dense attention if None.
    """
    seen = attended or dense(call.length)
    vectors = call.layers * call.width
    own = call.own + parameters + seen.vectors * vectors
    maps = seen.maps * call.layers * call.heads * MAP_PASSES
    return Work(
        products=2 * call.products,
        attention=2 * call.refined + 4 * seen.pairs * vectors,
        flex=4 * seen.flex * vectors,
        single=2 * seen.maps * vectors,
        traffic=own * itemsize + 4 * (call.single + seen.singles * vectors + maps),
        masked=seen.masked * call.layers * call.heads,
        kernels=call.kernels + call.layers * seen.kernels,
    )


def _flux(config: dict[str, Any], image: int, text: int) -> Call:
    width = config["num_attention_heads"] * config["attention_head_dim"]
    both, doubles, singles = image + text, config["num_layers"], config["num_single_layers"]
    # Width**2 weights a token: 3 for q, k, v, 1 for the output, 8 for the two feed-forward layers; a single block has
    # 7 into its parallel branches and 5 out of them. Modulations are computed once a sample.
    blocks = doubles * (12 * both + 12) + singles * (12 * both + 3)
    embedded = (image * (config["in_channels"] + _out(config)) + text * config["joint_attention_dim"]) * width
    times = (TIME + width) * width * (2 if config["guidance_embeds"] else 1)
    pooled = (config["pooled_projection_dim"] + width) * width
    return Call(
        products=blocks * width**2 + embedded + times + pooled + 2 * width**2,
        width=width,
        heads=config["num_attention_heads"],
        length=both,
        layers=doubles + singles,
        own=both * width * (30 * doubles + 24 * singles) + _ends(config, image, text, width),
        single=both * width * NORMS * (doubles + singles),
        kernels=80 * doubles + 39 * singles + KERNELS,
    )


def _qwen(config: dict[str, Any], image: int, text: int) -> Call:
    width, layers = config["num_attention_heads"] * config["attention_head_dim"], config["num_layers"]
    both = image + text
    blocks = layers * (12 * both + 12)
    out = config["out_channels"] * config["patch_size"] ** 2
    embedded = (image * (config["in_channels"] + out) + text * config["joint_attention_dim"]) * width
    return Call(
        products=blocks * width**2 + embedded + (TIME + width) * width + 2 * width**2,
        width=width,
        heads=config["num_attention_heads"],
        length=both,
        layers=layers,
        own=both * width * 36 * layers + _ends(config, image, text, width),
        single=both * width * 36.6 * layers,  # rotations as complex numbers
        kernels=74 * layers + KERNELS,
    )


def _flux2(config: dict[str, Any], image: int, text: int) -> Call:
    width, ratio = config["num_attention_heads"] * config["attention_head_dim"], config["mlp_ratio"]
    both, doubles, singles = image + text, config["num_layers"], config["num_single_layers"]
    # Gated feed-forward layers: 2 m into them and m out. Modulations are shared by all blocks of a kind: 6, 6 and 3.
    layers = both * (doubles + singles) * (4 + 3 * ratio) + 15
    embedded = (image * (config["in_channels"] + _out(config)) + text * config["joint_attention_dim"]) * width
    times = (config["timestep_guidance_channels"] + width) * width * (2 if config["guidance_embeds"] else 1)
    return Call(
        products=int(layers * width**2) + embedded + times + 2 * width**2,
        width=width,
        heads=config["num_attention_heads"],
        length=both,
        layers=doubles + singles,
        own=both * width * (doubles * (14 + 8 * ratio) + singles * (10 * ratio - 5))
        + _ends(config, image, text, width),
        single=both * width * NORMS * (doubles + singles),
        kernels=78 * doubles + 34 * singles + KERNELS,
    )


def _zimage(config: dict[str, Any], image: int, text: int) -> Call:
    width, refiners, layers = config["dim"], config["n_refiner_layers"], config["n_layers"]
    image, text = (-(-tokens // 32) * 32 for tokens in (image, text))
    inner, embedding, channels = int(width / 3 * 8), min(width, 256), config["in_channels"] * 4
    both, products = image + text, 0
    for tokens, count, modulated in ((image, refiners, True), (text, refiners, False), (both, layers, True)):
        products += count * (tokens * (4 * width**2 + 3 * width * inner) + modulated * 4 * embedding * width)
    ends = image * channels * width + text * config["cap_feat_dim"] * width + both * width * channels
    refined = 2 * refiners * (image**2 + text**2)
    return Call(
        products=products + ends + embedding * width + TIME * 1024 + 1024 * embedding,
        width=width,
        heads=config["n_heads"],
        length=both,
        layers=layers,
        own=both * width * (16.3 * layers + 18.7 * refiners) + both * width * ENDS,
        single=both * width * 76.6 * (layers + refiners),
        kernels=59 * layers + 109 * refiners + KERNELS,
        refined=refined * width,
    )


def _out(config: dict[str, Any]) -> int:
    values: int = (config.get("out_channels") or config["in_channels"]) * config.get("patch_size", 1) ** 2
    return values


def _ends(config: dict[str, Any], image: int, text: int, width: int) -> int:
    """Elements read and written outside the blocks."""
    read: int = image * config["in_channels"] + text * config["joint_attention_dim"]
    return read + (ENDS * image + text) * width


COUNTED = {
    "FluxTransformer2DModel": _flux,
    "Flux2Transformer2DModel": _flux2,
    "QwenImageTransformer2DModel": _qwen,
    "ZImageTransformer2DModel": _zimage,
}
