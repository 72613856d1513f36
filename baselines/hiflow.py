"""HiFlow (Bujiazi/HiFlow): at every step of an upscale, the low frequencies and the change of the flow follow those of
the stage before.

Arithmetic first, then the method. Latents are [B, C, 2H, 2W] in float32; LP is a low-pass; sigma_e the time a stage
enters at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError
from sega.methods.base import Attention, Method
from sega.methods.staged import FactorNTK, ProportionalAttention, Staged, base_size, fit
from sega.methods.types import Point, Request, Rope, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from sega.methods.types import Generation

VARIANTS = {
    # The paper names noise ratios 0.6, 0.3, 0.3, read as shares of the steps.
    "code": {"ratios": (2.0, 4.0), "shares": (16 / 30, 10 / 30), "weights": "step"},
    "paper": {"ratios": (2.0, 3.0, 4.0), "shares": (0.6, 0.3, 0.3), "weights": "time"},
}
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


def enlarged(run: Generation, latent: Tensor, size: tuple[int, int], std: float | None) -> Tensor:
    """A clean latent through pixels: decoded, bicubic to `size` (rows, columns of the latent), sharpened, encoded."""
    from sega.formulas.filters import bicubic, sharpen

    picture = run.decode(latent)
    cell = picture.shape[-1] // latent.shape[-1]
    picture = bicubic(picture, (size[0] * cell, size[1] * cell))
    return run.encode(sharpen(picture, std, run.generator))


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

    schedule: str = "auto"
    variant: str = "code"
    ratios: tuple[float, ...] | None = None
    steps: tuple[int, ...] | None = None
    guidance: tuple[float, ...] = (4.5, 6.0)
    alphas: tuple[float, ...] = (1.0, 0.25)
    betas: tuple[float, ...] = (0.5, 0.5)
    weights: str | None = None
    structure: str = "fft"
    filter_ratio: float = 0.2
    upsampling: str = "latent"
    sharpening: float | None = None
    ntk_factors: tuple[float, ...] = (10.0, 10.0)
    proportional_attention: bool = True
    shift_windows: bool = True

    name: ClassVar[str] = "hiflow"
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = Staged.CHOICES | {
        # Stages share their time stamps, which the stock shift would pull apart.
        "schedule": ("base", "pinned"),
        "variant": tuple(VARIANTS),
        "weights": ("step", "time"),
        "structure": ("fft", "dwt"),
        "upsampling": ("latent", "pixel"),
    }
    NUMBERS: ClassVar[dict[str, tuple[float, float]]] = Staged.NUMBERS | {
        "filter_ratio": (0, 10),
        "sharpening": (0.01, 100),
    }
    OPTIONAL: ClassVar[tuple[str, ...]] = ("sharpening",)
    FLAGS: ClassVar[tuple[str, ...]] = ("proportional_attention", "shift_windows")
    LISTS: ClassVar[dict[str, tuple[float, float]]] = {
        "ratios": (1.0001, math.inf),
        "steps": (1, math.inf),
        "guidance": (0, math.inf),
        "alphas": (0, math.inf),
        "betas": (0, math.inf),
        "ntk_factors": (1, math.inf),
    }

    def __post_init__(self) -> None:
        defaults = VARIANTS.get(self.variant, VARIANTS["code"])
        known: dict[str, Any] = {"ratios": defaults["ratios"], "weights": defaults["weights"]}
        if self.schedule == "auto":
            object.__setattr__(self, "schedule", "base" if self.geometry.family == "flux" else "pinned")
        if isinstance(self.base_steps, int):
            known["steps"] = tuple(max(1, round(self.base_steps * share)) for share in defaults["shares"])
        for key, value in known.items():
            if getattr(self, key) is None:
                object.__setattr__(self, key, value)
        super().__post_init__()
        for key, (low, high) in self.LISTS.items():
            values = _numbers(self.name, key, getattr(self, key), low, high, empty=key == "ratios")
            object.__setattr__(self, key, values)
        if any(step != int(step) or step > self.base_steps for step in self.steps):
            raise RequestError(
                f"{self.name}: steps={list(self.steps)} must be whole numbers no larger than base_steps="
                f"{self.base_steps}: an upscale takes the last of the base's times"
            )
        object.__setattr__(self, "steps", tuple(int(step) for step in self.steps))

    def sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """(width, height) of the base and of every upscale, the last one `size`; the base alone where it is `size`."""
        base = base_size(size, self.geometry)
        if base == tuple(size):
            return [base]
        ratio = math.sqrt(size[0] * size[1] / (base[0] * base[1]))
        between = sorted(value for value in self.ratios if value < CLOSE * ratio)
        middle = [tuple(fit(side * value / ratio, self.geometry.token_pixels) for side in size) for value in between]
        return [base, *(item for item in middle if item != base and item != tuple(size)), tuple(size)]

    def stages(self, request: Request) -> list[Stage]:
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
        same = geometry.family == "flux" and tokens == geometry.train_tokens**2
        return "pinned" if same or self.schedule == "pinned" else shift_of(tokens)

    def stretched(self, upscale: int) -> Method:
        """The method's own positions in an upscale."""
        return FactorNTK(self.geometry, factor=_at(self.ntk_factors, upscale))

    def own_positions(self, grid: tuple[int, int]) -> Rope:
        """Those of the upscale whose target a grid would be; of the base where there is none."""
        size = tuple(side * self.geometry.token_pixels for side in reversed(grid))
        upscales = len(self.sizes(size)) - 1
        return self.stretched(upscales - 1).positions(grid) if upscales else super().own_positions(grid)

    def begin(self, index: int, run: Generation) -> Tensor:
        if index == 0:
            return run.noise(run.stages[0].size)
        noise = run.noise(run.stages[index].size)
        clean = enlarged(run, run.latent, tuple(noise.shape[-2:]), self.sharpening)
        entry = run.sigmas(index)[0]
        return (1 - entry) * clean + entry * noise

    def attention(self, index: int, run: Generation | None) -> Attention | None:
        return ProportionalAttention(self.geometry) if self.proportional_attention else None

    def flow(self, index: int, run: Generation) -> Guidance | None:
        from sega.formulas.filters import bicubic, butterworth_lowpass, haar_lowpass

        def lowpass(x):
            return butterworth_lowpass(x, self.filter_ratio) if self.structure == "fft" else haar_lowpass(x)

        def reference(stored, size):
            if self.upsampling == "latent":
                return bicubic(stored, size)
            return enlarged(run, stored, size, self.sharpening)

        return Guidance(_at(self.alphas, index - 1), _at(self.betas, index - 1), self.weights, lowpass, reference)


def _at(values: tuple, index: int):
    """The entry of a list that goes on with its last value."""
    return values[min(index, len(values) - 1)]


def _numbers(name: str, key: str, values, low: float, high: float, empty: bool) -> tuple:
    """A number or a list of numbers as a tuple, or RequestError."""
    items = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,)
    good = all(isinstance(v, int | float) and not isinstance(v, bool) and low <= v <= high for v in items)
    if not good or not (items or empty):
        raise RequestError(f"{name}: {key}={values} must be a list of numbers of at least {low:g}")
    return items
