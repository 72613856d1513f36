"""I-Max (PRIS-CV/I-Max): an image of the training size, upsampled, pulls the flow at the target size towards itself.

Arithmetic first, then the method. Latents are [B, C, 2H, 2W] in float32; L is the Haar low-pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError
from sega.methods.base import Attention, Method, check_grid, check_sigma, uniform_axis
from sega.methods.parameters import choice, count, flag, number
from sega.methods.staged import ProportionalAttention, Staged, enlargements
from sega.methods.types import Coding, ImageRequest, Point, Rope, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from sega.methods.types import Generation


def divisor(size: tuple[int, int], native: int) -> int:
    """round_half_up(sqrt(W H)/native) of a size in pixels; 0 or 1 where there is nothing to extrapolate."""
    return math.floor(math.sqrt(size[0] * size[1]) / native + 0.5)


def low_size(size: tuple[int, int], native: int, token: int) -> tuple[int, int]:
    """size // divisor on both sides, cut to whole tokens. One divisor, so a wide image may be far from native^2."""
    parts = max(1, divisor(size, native))
    return tuple(max(token, side // parts // token * token) for side in size)


def clipped_ntk(
    dim: int, theta: float, factor: float, length: int, text: int, native: int, bounded: bool = True
) -> Tensor:
    """max((theta factor)^(-2i/dim), omega_i/rho), rho = sqrt((length - text)/native); float64 [dim/2].

    `length` counts all position ids. The code takes duplicated text for image here, so that at 4096 px with 16 copies
    rho is 4.23 and not 4. Below native + text ids rho is under 1, so that the code raises every frequency above the
    base; `bounded` keeps rho at 1 there.
    """
    import torch

    from sega.formulas.rope import base_frequencies

    rho = math.sqrt((length - text) / native)
    rho = max(1.0, rho) if bounded else rho
    return torch.maximum(base_frequencies(dim, theta * factor), base_frequencies(dim, theta) / rho)


def copy_positions(grid: tuple[int, int], side: int) -> list[tuple[int, int]]:
    """Where the copies of the text sit: (side i, side j) for i < max(1, H // side), j < max(1, W // side)."""
    rows, columns = (max(1, n // side) for n in grid)
    return [(side * i, side * j) for i in range(rows) for j in range(columns)]


def cosine_weight(index: int, steps: int) -> float:
    """c_k = (1 + cos(pi k/n))/2, from 1 at the first step towards 0."""
    return 0.5 * (1 + math.cos(math.pi * index / steps))


def projected_velocity(x: Tensor, guide: Tensor, sigma: float) -> Tensor:
    """v_g = (x - g)/(sigma + 1e-6): the straight way from x to the guide g."""
    return (x - guide) / (sigma + 1e-6)


def mixed_velocity(velocity: Tensor, projected: Tensor, weight: float, mode: str, level: int = 1) -> Tensor:
    """The network's velocity v and the projected one v_g, c = weight:

    cosine_decay  v + c (L v_g - L v)
    cosine_shift  v + c (v_g - v) + (1 - c)(L v_g - L v)
    constant      v + L v_g - L v
    disable       v
    """
    from sega.formulas.filters import haar_lowpass

    if mode == "disable":
        return velocity
    difference = projected - velocity
    low = haar_lowpass(difference, level)
    if mode == "cosine_shift":
        return velocity + weight * difference + (1 - weight) * low
    return velocity + (weight if mode == "cosine_decay" else 1.0) * low


class Projection:
    """The flow part: pulls towards one clean guide latent [1, C, 2H, 2W], padded along with shifted windows."""

    def __init__(self, guide: Tensor, mode: str, level: int = 1):
        self.guide, self.mode, self.level = guide, mode, level

    def __call__(self, point: Point) -> Tensor:
        projected = projected_velocity(point.x, point.align(self.guide), point.sigma)
        weight = cosine_weight(point.index, point.steps)
        return mixed_velocity(point.velocity, projected, weight, self.mode, self.level)


@dataclass(frozen=True)
class ClippedNTK(Method):
    """Positions by `clipped_ntk` with the base change `factor`; `clip` "bounded" or "code".

    `duplicated`: the text stands on the grid once per training-size tile, and its ids count.
    """

    factor: float = number(1.0, low=1, doc="on theta")
    clip: str = choice("bounded", "bounded", "code", doc="whether rho stays at or above 1")
    duplicated: bool = flag(False, doc="whether the text stands on the grid once per training-size tile")

    name: ClassVar[str] = "clipped_ntk"

    def positions(self, grid: tuple[int, int], sigma: float = 1.0, tokens: Tensor | None = None) -> Rope:
        (height, width), _ = check_grid(grid), check_sigma(sigma)
        geometry = self.geometry
        copies = len(copy_positions((height, width), geometry.train_tokens)) if self.duplicated else 1
        sizes = height * width + copies * geometry.text_tokens, geometry.text_tokens, geometry.train_tokens**2
        bounded = self.clip == "bounded"
        axes = (
            uniform_axis(clipped_ntk(dim, geometry.theta, self.factor, *sizes, bounded)) for dim in geometry.axes[1:]
        )
        return self.rope(*axes, text="base" if geometry.facts.text == "own" else "shared")


@dataclass(frozen=True)
class IMax(Staged):
    """Two stages: the training size, then the target from fresh noise along the projected flow.

    Defaults are those of the read-me of the published code; its demo has 20 steps, guidance 5 and shift 10, its
    function `cosine_shift`. Positions of the second stage: clipped NTK, shared by the copies of the text. A ratio
    below 1.5 leaves the first stage alone, at the target size.

    `clip`: "bounded" keeps the first stage the model as it is. "code" sends it through the clip too, which raises its
    frequencies where it has fewer tokens than the training size; it is then no longer shared with other methods.
    """

    schedule: str = choice(
        "own", "own", "pinned", "stock", doc="own: the two static shifts; else the shift of the scheduler of the model"
    )
    base_shift: float = number(3.0, low=0.01, doc="static time shift of the base image")
    steps: int = count(30, doc="at the target; the published demo has 20")
    guidance: float = number(7.0, low=0, doc="at the target; the demo has 5")
    shift: float = number(6.0, low=0.01, doc="static time shift at the target; the demo has 10")
    projection: str = choice(
        "cosine_decay",
        "cosine_decay",
        "cosine_shift",
        "constant",
        "disable",
        doc="how the guide enters the velocity; cosine_shift is the default of the published function",
    )
    level: int = count(1, doc="of the Haar low-pass: 2^level cells")
    ntk_factor: float = number(10.0, low=1, doc="on theta, before the clip at position interpolation")
    clip: str = choice(
        "bounded",
        "bounded",
        "code",
        doc="bounded: the base image is the plain model; code: clipped too, so faster below the training area",
    )
    proportional_attention: bool = flag(True, doc="logits times sqrt(ln N / ln N of the training size)")
    text_duplication: bool | None = flag(
        None, doc="one copy of the text per training-size tile; null: where the model allows it (FLUX)"
    )
    shift_windows: bool = flag(True, doc="token borders move by half a token on every other step")

    name: ClassVar[str] = "imax"

    def settle(self) -> dict[str, Any]:
        return {"text_duplication": self.geometry.facts.text_moves}

    def check(self) -> None:
        if self.text_duplication and not self.geometry.facts.text_moves:
            raise RequestError(
                f"{self.name}: text_duplication=true needs text that can be placed on the image grid; the positions of "
                "this model's text follow from its place in the prompt; set text_duplication=false"
            )

    def stages(self, request: ImageRequest) -> list[Stage]:
        native = self.geometry.train_tokens * self.geometry.token_pixels
        first, second = (value if self.schedule == "own" else self.schedule for value in (self.base_shift, self.shift))
        small = low_size(request.size, native, self.geometry.token_pixels)
        if divisor(request.size, native) <= 1 or small == tuple(request.size):
            return [self.first_stage(request.size, first)]
        return [
            self.first_stage(small, first),
            Stage(request.size, self.steps, self.guidance, second, windows=self.shift_windows, positions=self.direct),
        ]

    def first_stage(self, size: tuple[int, int], schedule: str | float) -> Stage:
        """The model as it is, or where `clip` changes them, with its positions and nothing else."""
        width, height = (side // self.geometry.token_pixels for side in size)
        stage = self.base_stage(size, schedule)
        if self.clip == "bounded" or width * height >= self.geometry.train_tokens**2:
            return stage
        return replace(stage, plain=False, positions=ClippedNTK(self.geometry, clip="code"))

    def own_positions(self, grid: tuple[int, int]) -> Rope:
        own = ClippedNTK(self.geometry, factor=self.ntk_factor, clip=self.clip, duplicated=self.text_duplication)
        return own.positions(grid)

    # A first stage that is not plain has index 0: of the method only its positions apply there.

    def text_positions(self, grid: tuple[int, int], index: int) -> list[tuple[int, int]]:
        return copy_positions(grid, self.geometry.train_tokens) if index and self.text_duplication else [(0, 0)]

    def own_attention(self, index: int, generation: Generation | None) -> Attention | None:
        return ProportionalAttention(self.geometry) if index and self.proportional_attention else None

    def recoded(self, request: ImageRequest) -> dict[int, list[Coding]]:
        return {} if self.projection == "disable" else enlargements(self.stages(request))

    def flow(self, index: int, generation: Generation) -> Projection | None:
        if index == 0 or self.projection == "disable":
            return None
        from sega.formulas.filters import bicubic

        width, height = generation.stages[index].size
        guide = generation.encode(bicubic(generation.decode(generation.latent), (height, width)), sample=True)
        return Projection(guide, self.projection, self.level)
