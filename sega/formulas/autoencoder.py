"""Operations and bytes of an autoencoder, counted from its config: no weights, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sega.formulas.work import Work


@dataclass(frozen=True)
class Layout:
    """What the classes have in common: levels of residual blocks, each half the side of the one before.

    Between the first convolution and the last there are also two residual blocks around one attention, at the level
    with the fewest cells.
    """

    down: list[int]  # channels of the levels, from the image on
    up: list[int]
    blocks: int  # residual blocks of a level on the way down; one more on the way up
    latent: int  # channels
    image: int
    taps: int  # of a convolution of 3 cells a side
    attends: bool
    halves: bool  # whether convolutions after an enlargement halve the channels
    ends: tuple[int, int]  # channels into a convolution of one cell before decoding and after encoding; 0: none
    norm: int  # how often a norm and its SiLU read or write their input
    joined: int  # how often the sum at the end of a residual block reads or writes its output


class Sum:
    """Adds up layers; `itemsize` is that of the dtype in bytes."""

    def __init__(self, layout: Layout, itemsize: int):
        self.layout, self.itemsize, self.work = layout, itemsize, Work()

    def convolve(self, cells: float, before: int, after: int, taps: int) -> None:
        passes = 7 if taps == 27 else 1  # frames are padded, one to three, and all are read
        self.work += Work(
            convolutions=2 * taps * before * after * cells,
            traffic=(passes * before + after) * cells * self.itemsize,
            kernels=1,
        )

    def residual(self, cells: float, before: int, after: int) -> None:
        """Norm, SiLU and convolution twice, and the sum with the input."""
        self.convolve(cells, before, after, self.layout.taps)
        self.convolve(cells, after, after, self.layout.taps)
        if before != after:
            self.convolve(cells, before, after, 1)
        vectors = self.layout.norm * (before + after) + self.layout.joined * after
        self.work += Work(traffic=vectors * cells * self.itemsize, kernels=6)

    def middle(self, cells: float, channels: int) -> None:
        self.residual(cells, channels, channels)
        if self.layout.attends:
            self.work += Work(
                products=8 * channels**2 * cells,
                attention=4 * channels * cells**2,
                traffic=20 * channels * cells * self.itemsize,
                kernels=10,
            )
        self.residual(cells, channels, channels)


def decode_work(config: dict[str, Any], size: tuple[int, int], itemsize: int) -> Work | None:
    """Of decoding an image of (width, height) pixels in one piece; None for a class that is not counted."""
    layout = _layout(config)
    if layout is None:
        return None
    found, channels = Sum(layout, itemsize), layout.up[-1]
    cells = size[0] * size[1] / 4 ** (len(layout.up) - 1)
    if layout.ends[0]:
        found.convolve(cells, layout.ends[0], layout.ends[0], 1)
    found.convolve(cells, layout.latent, channels, layout.taps)
    found.middle(cells, channels)
    for level, after in enumerate(reversed(layout.up)):
        for _ in range(layout.blocks + 1):
            found.residual(cells, channels, after)
            channels = after
        if level < len(layout.up) - 1:
            cells *= 4
            found.work += Work(traffic=1.25 * after * cells * itemsize, kernels=1)
            channels = after // 2 if layout.halves else after
            found.convolve(cells, after, channels, 9)
    found.work += Work(traffic=layout.norm * channels * cells * itemsize, kernels=2)
    found.convolve(cells, channels, layout.image, layout.taps)
    return found.work


def encode_work(config: dict[str, Any], size: tuple[int, int], itemsize: int) -> Work | None:
    """Of encoding an image of (width, height) pixels in one piece; None for a class that is not counted."""
    layout = _layout(config)
    if layout is None:
        return None
    found, channels, cells = Sum(layout, itemsize), layout.down[0], float(size[0] * size[1])
    found.convolve(cells, layout.image, channels, layout.taps)
    for level, after in enumerate(layout.down):
        for _ in range(layout.blocks):
            found.residual(cells, channels, after)
            channels = after
        if level < len(layout.down) - 1:
            found.work += Work(traffic=2 * after * cells * itemsize, kernels=1)  # padding
            cells /= 4
            found.convolve(cells, after, after, 9)
            found.work += Work(traffic=3 * after * cells * itemsize)  # it reads four cells for each
    found.middle(cells, channels)
    found.work += Work(traffic=layout.norm * channels * cells * itemsize, kernels=2)
    found.convolve(cells, channels, 2 * layout.latent, layout.taps)
    if layout.ends[1]:
        found.convolve(cells, layout.ends[1], layout.ends[1], 1)
    return found.work


def _layout(config: dict[str, Any]) -> Layout | None:
    name = config.get("_class_name")
    if name in ("AutoencoderKL", "AutoencoderKLFlux2"):
        new = name == "AutoencoderKLFlux2"
        channels, latent = list(config["block_out_channels"]), config.get("latent_channels", 32 if new else 4)
        return Layout(
            down=channels,
            up=list(config.get("decoder_block_out_channels") or channels),
            blocks=config.get("layers_per_block", 2 if new else 1),
            latent=latent,
            image=config.get("out_channels", 3),
            taps=9,
            attends=config.get("mid_block_add_attention", True),
            halves=False,
            ends=(
                latent if config.get("use_post_quant_conv", True) else 0,
                2 * latent if config.get("use_quant_conv", True) else 0,
            ),
            norm=4,
            joined=5,
        )
    if name == "AutoencoderKLQwenImage":
        # Of one frame: its convolutions are in three dimensions, over frames of zeros before it.
        channels, latent = [config["base_dim"] * factor for factor in config["dim_mult"]], config.get("z_dim", 16)
        return Layout(
            down=channels,
            up=channels,
            blocks=config.get("num_res_blocks", 2),
            latent=latent,
            image=config.get("input_channels", 3),
            taps=27,
            attends=True,
            halves=True,
            ends=(latent, 2 * latent),
            norm=11,
            joined=3,
        )
    return None
