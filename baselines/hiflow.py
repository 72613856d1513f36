"""HiFlow (Bujiazi/HiFlow): at every step of an upscale, the low frequencies and the change of the flow follow those of
the stage before.

Arithmetic first, then the method. Latents are [B, C, 2H, 2W] in float32; LP is a low-pass; sigma_e the time a stage
enters at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError
from sega.methods.base import Attention, Method
from sega.methods.parameters import choice, flag, number, numbers
from sega.methods.staged import FactorNTK, ProportionalAttention, Staged, base_size, enlargements, fit
from sega.methods.types import Coding, ImageRequest, Point, Rope, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from sega.methods.types import Generation

VARIANTS = {
    # The paper names noise ratios 0.6, 0.3, 0.3, read as shares of the steps.
    "code": {"ratios": (2.0, 4.0), "shares": (16 / 30, 10 / 30), "weights": "step"},
    "paper": {"ratios": (2.0, 3.0, 4.0), "shares": (0.6, 0.3, 0.3), "weights": "time"},
}
PUBLISHED = ("flux",)
"""Families that the published code is for."""
CLOSE = 0.9  # an intermediate stage this close to the target's ratio is left out


def direction(clean: Tensor, reference: Tensor, alpha: float, lowpass: Callable[[Tensor], Tensor]) -> Tensor:
    """x0 + alpha (LP r - LP x0): the clean prediction with the low frequencies of the reference."""
    return clean + alpha * (lowpass(reference) - lowpass(clean))


def towards(x: Tensor, clean: Tensor, sigma: float) -> Tensor:
    """(x - x0)/(sigma + 1e-6): the velocity that leads to a clean latent."""
    return (x - clean) / (sigma + 1e-6)


def acceleration(velocity: Tensor, reference: Tensor, previous: tuple[Tensor, Tensor] | None, beta: float) -> Tensor:
    """v + beta (v' + v_r - v_r' - v): the change since the step before (') follows that of the reference.

    Without a step before, v.
    """
    if previous is None:
        return velocity
    return velocity + beta * (previous[0] + reference - previous[1] - velocity)


def step_share(index: int, steps: int) -> float:
    """(n - k)/n, what the code weights alpha and beta with (the paper: sigma/sigma_e)."""
    return (steps - index) / steps


class Guidance:
    """The flow part of one upscale.

    `reference(stored, size)` brings a stored clean prediction to the size of the latent; `lowpass` is LP; `weights`
    is "step" or "time". Keeps the velocities of the step before, which are padded or cropped with the latent.
    """

    def __init__(self, alpha: float, beta: float, weights: str, lowpass: Callable, reference: Callable):
        self.alpha, self.beta, self.weights = alpha, beta, weights
        self.lowpass, self.reference = lowpass, reference
        self.entry: float | None = None
        self.previous: tuple[Tensor, Tensor] | None = None

    def share(self, point: Point) -> float:
        """What alpha and beta are weighted with at a step."""
        if self.entry is None:
            self.entry = point.sigma
        return step_share(point.index, point.steps) if self.weights == "step" else point.sigma / self.entry

    def __call__(self, point: Point) -> Tensor:
        if point.stored is None:
            raise RequestError(f"the stage before left no prediction at time {point.sigma:.6g} to follow")
        share = self.share(point)
        reference = self.reference(point.stored.to(point.x), tuple(point.x.shape[-2:]))
        clean = direction(point.clean, reference, self.alpha * share, self.lowpass)
        velocity, aim = towards(point.x, clean, point.sigma), towards(point.x, reference, point.sigma)
        if self.previous is not None:
            self.previous = tuple(point.align(value) for value in self.previous)
        velocity = acceleration(velocity, aim, self.previous, self.beta * share)
        self.previous = velocity, aim
        return velocity


def enlarged(generation: Generation, latent: Tensor, size: tuple[int, int], std: float | None) -> Tensor:
    """A clean latent through pixels: decoded, bicubic to `size` (rows, columns of the latent), sharpened, encoded."""
    from sega.formulas.filters import bicubic, sharpen

    image = generation.decode(latent)
    cell = image.shape[-1] // latent.shape[-1]
    image = bicubic(image, (size[0] * cell, size[1] * cell))
    return generation.encode(sharpen(image, std, generation.generator))


@dataclass(frozen=True)
class HiFlow(Staged):
    """A base image, then upscales that start from the image before, enlarged, sharpened and partly noised.

    Upscale j runs at `ratios[j]` times the base, the last one at the target; ratios from 0.9 of the target's on are
    left out, and lists shorter than the upscales go on with their last value. All stages share one list of
    `base_steps` times, of which upscale j takes the last `steps[j]`. `variant` sets what is null: "code" has ratios
    2, 4 with 16 and 10 of 30 steps and weights linear in the step; "paper" ratios 2, 3, 4, noise ratios 0.6, 0.3, 0.3
    (read as shares of the steps) and weights sigma/sigma_e (from secondary accounts of the paper).

    `schedule`: "base" gives all stages the time shift that the scheduler has for the tokens of the base, as the code
    does; "pinned" that of the training size. The two are the same where the base has the training size. "auto" is
    base on FLUX, for which the code is, and pinned elsewhere.
    """

    # Stages share their sigmas, which the stock shift would pull apart.
    schedule: str = choice(
        "auto",
        "base",
        "pinned",
        doc="of all stages; base: that of the tokens of the base (code); pinned: of the training size; "
        "auto: base on FLUX",
    )
    variant: str = choice("code", *VARIANTS, doc="sets ratios, steps and weights where they are null")
    ratios: tuple[float, ...] | None = numbers(
        None,
        low=1.0001,
        empty=True,
        doc="upscales as multiples of the base, below the target; code: [2, 4], paper: [2, 3, 4]",
    )
    steps: tuple[int, ...] | None = numbers(
        None,
        low=1,
        whole=True,
        doc="of each upscale, from the end of the list; of 30, code: [16, 10], paper: [18, 9, 9]",
    )
    guidance: tuple[float, ...] = numbers((4.5, 6.0), low=0, doc="of each upscale")
    alphas: tuple[float, ...] = numbers(
        (1.0, 0.25), low=0, doc="direction: weight of the low frequencies of the reference"
    )
    betas: tuple[float, ...] = numbers((0.5, 0.5), low=0, doc="acceleration: weight of the change of the reference")
    weights: str | None = choice(
        None, "step", "time", doc="how alpha and beta fall; step: (n - k)/n (code); time: sigma/sigma_entry (paper)"
    )
    structure: str = choice("fft", "fft", "dwt", doc="low-pass; fft: Butterworth; dwt: Haar, level 1")
    filter_ratio: float = number(0.2, low=0, high=10, doc="of the Butterworth low-pass")
    upsampling: str = choice(
        "latent",
        "latent",
        "pixel",
        doc="of stored predictions; latent: bicubic; pixel: decode, bicubic, sharpen, encode",
    )
    sharpening: float | None = number(
        None,
        low=0.01,
        high=100,
        optional=True,
        doc="blur of the sharpening; null: drawn from 0.1 to 2.0 on each call, by the seed of the image",
    )
    ntk_factors: tuple[float, ...] = numbers((10.0, 10.0), low=1, doc="on theta, for each upscale")
    proportional_attention: bool = flag(True, doc="logits times sqrt(ln N / ln N of the training size)")
    shift_windows: bool = flag(True, doc="token borders move by half a token on every other step")

    name: ClassVar[str] = "hiflow"
    tied: ClassVar[bool] = True
    shares: ClassVar[tuple[float, ...] | None] = None  # of base_steps that upscales take, where `variant` has no say

    def settle(self) -> dict[str, Any]:
        variant = VARIANTS.get(self.variant, VARIANTS["code"])
        values: dict[str, Any] = {"ratios": variant["ratios"], "weights": variant["weights"]}
        values["schedule"] = "base" if self.geometry.family in PUBLISHED else "pinned"
        if isinstance(self.base_steps, int):
            shares = self.shares or variant["shares"]
            values["steps"] = tuple(max(1, round(self.base_steps * share)) for share in shares)
        return values

    def check(self) -> None:
        if any(step > self.base_steps for step in self.steps):
            raise RequestError(
                f"{self.name}: steps={list(self.steps)} must be whole numbers no larger than base_steps="
                f"{self.base_steps}: an upscale takes the last sigmas of the base"
            )

    def sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """(width, height) of the base and of every upscale, the last one `size`; the base alone where it is `size`."""
        base = base_size(size, self.geometry)
        if base == tuple(size):
            return [base]
        ratio = math.sqrt(size[0] * size[1] / (base[0] * base[1]))
        between = sorted(value for value in self.ratios if value < CLOSE * ratio)
        middle = [tuple(fit(side * value / ratio, self.geometry.token_pixels) for side in size) for value in between]
        return [base, *(item for item in middle if item != base and item != tuple(size)), tuple(size)]

    def stages(self, request: ImageRequest) -> list[Stage]:
        base, *upscales = self.sizes(request.size)
        schedule = self.shift(base)
        stages = [self.base_stage(base, schedule)]
        for j, size in enumerate(upscales):
            taken = _at(self.steps, j)
            stages.append(
                Stage(
                    size,
                    self.base_steps,
                    _at(self.guidance, j),
                    schedule,
                    first=self.base_steps - taken,
                    windows=self.shift_windows,
                    positions=self.direct or self.stretched(j),
                )
            )
        return stages

    def shift(self, base: tuple[int, int]) -> str:
        """The time shift of all stages, for a base of (width, height) pixels."""
        from sega.formulas.schedules import shift_of

        geometry = self.geometry
        tokens = math.prod(side // geometry.token_pixels for side in base)
        # FLUX's scheduler has its pinned value at the training size; by that name other methods share the base.
        same = geometry.family in PUBLISHED and tokens == geometry.train_tokens**2
        return "pinned" if same or self.schedule == "pinned" else shift_of(tokens)

    def stretched(self, upscale: int) -> Method:
        """The method's own positions in an upscale."""
        return FactorNTK(self.geometry, factor=_at(self.ntk_factors, upscale))

    def own_positions(self, grid: tuple[int, int]) -> Rope:
        """Those of the upscale whose target a grid would be; of the base where there is none."""
        size = tuple(side * self.geometry.token_pixels for side in reversed(grid))
        upscales = len(self.sizes(size)) - 1
        return self.stretched(upscales - 1).positions(grid) if upscales else super().own_positions(grid)

    def begin(self, index: int, generation: Generation) -> Tensor:
        if index == 0:
            return generation.noise(generation.stages[0].size)
        noise = generation.noise(generation.stages[index].size)
        clean = enlarged(generation, generation.latent, tuple(noise.shape[-2:]), self.sharpening)
        entry = generation.sigmas(index)[0]
        return (1 - entry) * clean + entry * noise

    def own_attention(self, index: int, generation: Generation | None) -> Attention | None:
        return ProportionalAttention(self.geometry) if self.proportional_attention else None

    def recoded(self, request: ImageRequest) -> dict[int, list[Coding]]:
        stages, every = self.stages(request), self.upsampling == "pixel"
        return {index: found * (1 + every * stages[index].taken) for index, found in enlargements(stages).items()}

    def flow(self, index: int, generation: Generation) -> Guidance | None:
        from sega.formulas.filters import bicubic, butterworth_lowpass, haar_lowpass

        def lowpass(x):
            return butterworth_lowpass(x, self.filter_ratio) if self.structure == "fft" else haar_lowpass(x)

        def reference(stored, size):
            if self.upsampling == "latent":
                return bicubic(stored, size)
            return enlarged(generation, stored, size, self.sharpening)

        return Guidance(_at(self.alphas, index - 1), _at(self.betas, index - 1), self.weights, lowpass, reference)


def _at(values: tuple, index: int):
    """The entry of a list that goes on with its last value."""
    return values[min(index, len(values) - 1)]
