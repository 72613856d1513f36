"""UltraImage (thu-ml/DiT-Extrapolation): one stretched pair against repetition, sharper heads against blur.

Frequencies first, then the method; its attention half is in `focus.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError
from sega.formulas.work import Attended
from sega.methods.base import Attention, Method, base_axis, uniform_axis
from sega.methods.borrowed import DIRECT, Borrowing
from sega.methods.geometry import Geometry
from sega.methods.parameters import choice, count, flag, number, numbers
from sega.methods.staged import enlargements
from sega.methods.types import Axis, Coding, ImageRequest, Point, Rope, Stage, Step

from .kernels.focus import Focus, LayeredProportion, focus_factor

if TYPE_CHECKING:
    from torch import Tensor

    from sega.methods.types import Generation


@dataclass(frozen=True)
class Published:
    """What differs between the published codes for FLUX and Qwen-Image. The defaults are for other models."""

    side: int = 0  # training side of the published model, in tokens
    pairs: tuple[int, ...] = ()  # that its code corrects
    steps: int | str = "run"
    guidance: float | str = "run"
    lambda_min: float = 1.0
    h_min: float = 0.04
    largest: tuple[int, float] = (0, 0.0)  # image tokens at which it was published, and its largest entropy there
    scaled_block: bool = False  # the block of entropies grows with the training length
    static_shift: bool = False  # a static time shift, in direct mode, and a guided mode of its own
    by_side: bool = False  # an image is beyond the training size by its longer side, not by its tokens
    interpolates: bool = False  # pairs are divided by the ratio, not set to the length of the axis
    sentences: tuple[str, ...] = ()  # that measuring passes read


OTHER = Published()
PUBLISHED = {
    "flux": Published(64, (9,), 30, 7.0, 1.1, 0.44, (225 * 225, 6.0), scaled_block=True, static_shift=True),
    # Its unconditional pass is measured with an empty prompt, whatever the negative prompt.
    "qwen": Published(83, (8, 9), largest=(256 * 256, 6.25), by_side=True, interpolates=True, sentences=("",)),
}


def published(geometry: Geometry) -> Published:
    """The constants for a model."""
    return PUBLISHED.get(geometry.family, OTHER)


def dominant_pairs(geometry: Geometry) -> tuple[int, ...]:
    """0-based indices of the pairs whose period matches the training side, the same on both axes.

    The published sets for the published models: {9} on FLUX (whose own training side is then 2048 px) and {8, 9} on
    Qwen-Image, where the second was found by looking at what still repeated. Any other geometry gets
    k* = argmin_i |T_i - N| with T_i = 2 pi theta^(2i/D) and N its training side in tokens.
    """
    dim, known = geometry.axes[1], published(geometry)
    if (dim, geometry.theta, geometry.train_tokens) == (56, 10000, known.side):
        return known.pairs
    distance = [abs(2 * math.pi * geometry.theta ** (2 * i / dim) - geometry.train_tokens) for i in range(dim // 2)]
    return (distance.index(min(distance)),)


def stretched(base: Tensor, pairs: tuple[int, ...], period: float) -> Tensor:
    """Frequencies [K] with `pairs` turning once in `period` tokens: 2 pi / period (paper: period = tokens of the
    axis; FLUX code: that over 0.85)."""
    frequencies = base.clone()
    frequencies[list(pairs)] = 2 * math.pi / period
    return frequencies


def interpolated(base: Tensor, pairs: tuple[int, ...], factor: float) -> Tensor:
    """Frequencies [K] with `pairs` divided by `factor` (Qwen-Image code: tokens of the axis * 16 / 1328)."""
    frequencies = base.clone()
    frequencies[list(pairs)] /= factor
    return frequencies


@dataclass(frozen=True)
class Unpadded(Method):
    """The positions of `method` for the image's own `grid`, also on steps that shifted windows pad."""

    method: Method | None = None
    grid: tuple[int, int] = (1, 1)

    name: ClassVar[str] = "unpadded"

    def parameters(self) -> dict[str, Any]:
        return {"of": self.method.name, "grid": list(self.grid)}

    def needs(self) -> set[str]:
        return self.method.needs()

    def positions(self, grid: tuple[int, int], sigma: float = 1.0, tokens: Tensor | None = None) -> Rope:
        return self.method.positions(self.grid, sigma, tokens)


@dataclass(frozen=True)
class UltraImage(Borrowing):
    """Dominant frequency correction and entropy-guided focus.

    Positions. `pairs` (default: `dominant_pairs`) of both axes turn slower; all others keep the base. `correction`:
    "code" is margin * 2 pi / n on FLUX and base * N0 / n on Qwen-Image, n the tokens of the axis and N0 those of the
    training side; "paper" is 2 pi / n on both; "none" leaves the frequencies alone. An axis no longer than N0 keeps
    the base (the code of Qwen-Image would raise its frequencies), and on FLUX so does an image of no more than N0^2
    tokens in all.

    Attention. With `focus` the logits of each head are multiplied by `focus_factor` of its entropy in one measuring
    pass at the first step, separately for the passes of classifier-free guidance. `constants` "code": lambda from
    `lambda_min` 1.1 on FLUX, 1.0 on Qwen-Image to `lambda_max` 1.3, h from `h_min` 0.44 or 0.04 to `h_max`, which is
    the code's 6.0 or 6.25 at the sizes it was made for and ln(number of blocks) elsewhere; "paper": lambda from 1.0,
    h between the extremes found over all heads. `entropy` is that of blocks (code) or of tokens (paper). `block`
    is 128 tokens at FLUX's training length of 4608 and in proportion elsewhere, so that the number of blocks, and
    with it the range of h, is the same for all models.

    `mode` "direct" is one stage of fresh noise at the target with a static `shift`, 30 steps and guidance 7 on FLUX;
    "auto" steps and guidance are those of the run on Qwen-Image, "run" makes them so on FLUX. "guided" is the
    published FLUX run: two stages with I-Max's cosine_decay and shifted windows, without copies of the text, with
    these positions in place of clipped NTK. Its first stage is square and of the training size whatever the target,
    and is enlarged to the target's shape; `base_steps`, `base_guidance` and `base_shift` are its own. Positions and
    thresholds are those of the target, also on steps that shifted windows pad.

    `proportional_attention` (null: only in guided mode without focus, as in the code) multiplies all logits; in guided
    mode with focus the measuring pass attends under it. `proportional_length` is its reference length: "code", that
    of the newest published code, for guided FLUX, whose default it is; "native", text and training size, elsewhere.
    """

    mode: str = choice(
        "direct",
        "direct",
        "guided",
        doc="direct: fresh noise at the target; guided: the two stages of I-Max with these parts",
    )
    schedule: str = choice(
        "own", "own", "pinned", "stock", doc="own: the static shift below on FLUX, stock on Qwen-Image"
    )
    shift: float = number(6.0, low=0.01, doc="static time shift at the target")
    steps: int | str = count(
        "auto", "run", doc="at the target; auto: 30 on FLUX, those of the run on Qwen-Image; run: those of the run"
    )
    guidance: float | str = number(
        "auto", "run", low=0, doc="at the target; auto: 7 on FLUX, that of the run on Qwen-Image; run: that of the run"
    )
    correction: str = choice(
        "code", "code", "paper", "none", doc="of the frequencies; paper: 2 pi / tokens of the axis"
    )
    margin: float = number(0.85, low=0.01, high=1, doc="FLUX code only: corrected pairs make this many turns an axis")
    pairs: tuple[int, ...] | None = numbers(
        None,
        whole=True,
        empty=True,
        doc="0-based; null: 9 on FLUX, 8 and 9 on Qwen-Image, nearest to the training side elsewhere",
    )
    focus: bool = flag(True, doc="false: the frequency half alone")
    constants: str = choice(
        "code", "code", "paper", doc="paper: lambda from 1, entropies between the extremes of all heads"
    )
    lambda_min: float | None = number(
        None, low=0.01, high=100, doc="least factor; code: 1.1 on FLUX, 1.0 on Qwen-Image; paper: 1.0"
    )
    lambda_max: float = number(1.3, low=0.01, high=100, doc="largest factor")
    h_min: float | None = number(
        None, low=0, optional=True, doc="least entropy; code: 0.44 on FLUX, 0.04 on Qwen-Image; paper: smallest found"
    )
    h_max: float | None = number(
        None,
        low=0,
        optional=True,
        doc="largest entropy; code: 6.0 or 6.25 at the published size, else ln(number of blocks); paper: largest found",
    )
    power: float = number(2.0, low=0.01, high=100, doc="exponent of the share of the entropy")
    entropy: str = choice("block", "block", "token", doc="of what; block (code), token (paper)")
    block: int | None = count(
        None, doc="tokens of a block; null: 128 at the length of FLUX, 4608 tokens, in proportion for other models"
    )
    memory_mb: float = number(256.0, low=0, doc="of the rows of an attention map that are in memory at a time")
    proportional_attention: bool | None = flag(
        None, doc="logits times sqrt(ln N / ln N of the training size); null: in guided mode without focus"
    )
    proportional_length: str | None = choice(
        None,
        "code",
        "native",
        doc="N of the training size; code: 128^2 + 512 in double-stream blocks; null: code on guided FLUX, else native",
    )
    positions_of: str = choice(
        "own", "own", *DIRECT, later=True, doc="whose positions apply; own: those of this method"
    )
    base_steps: int = count(30, doc="guided mode: steps of the base image")
    base_guidance: float = number(3.5, low=0, doc="guided mode: guidance of the base image")
    base_shift: float = number(3.0, low=0.01, doc="guided mode: static time shift of the base image")

    name: ClassVar[str] = "ultraimage"

    def settle(self) -> dict[str, Any]:
        geometry, known, code = self.geometry, published(self.geometry), self.constants == "code"
        native = geometry.train_tokens**2 + geometry.text_tokens
        return {
            "steps": known.steps,
            "guidance": known.guidance,
            "pairs": dominant_pairs(geometry),
            "lambda_min": known.lambda_min if code else 1.0,
            "h_min": known.h_min if code else None,
            "block": max(1, round(128 * native / 4608)) if known.scaled_block else 128,
            "proportional_attention": self.mode == "guided" and not self.focus,
            "proportional_length": "code" if known.static_shift and self.staged else "native",
        }

    def check(self) -> None:
        count = self.geometry.axes[1] // 2
        if not all(0 <= pair < count for pair in self.pairs):
            raise RequestError(f"{self.name}: pairs={list(self.pairs)} must be whole numbers from 0 to {count - 1}")
        if self.proportional_length == "code" and not (published(self.geometry).static_shift and self.staged):
            raise RequestError(f"{self.name}: proportional_length=code is that of mode=guided on FLUX; use native here")

    @property
    def staged(self) -> bool:
        return self.mode == "guided"

    def beyond(self, grid: tuple[int, int]) -> bool:
        """Whether a grid is larger than the training size; the method does nothing where it isn't."""
        native = self.geometry.train_tokens
        return max(grid) > native if published(self.geometry).by_side else grid[0] * grid[1] > native**2

    def scales(self, grid: tuple[int, int]) -> tuple[float, float]:
        return super().scales(grid) if self.beyond(grid) else (1.0, 1.0)

    def own_positions(self, grid: tuple[int, int]) -> Rope:
        return self.rope(*self.axes(grid, 1.0))

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        base, length = base_axis(dim, self.geometry.theta), round(scale * self.geometry.train_tokens)
        if self.correction == "none":
            return base
        if self.correction == "paper":
            return uniform_axis(stretched(base.frequencies, self.pairs, length))
        if published(self.geometry).interpolates:
            return uniform_axis(interpolated(base.frequencies, self.pairs, scale))
        return uniform_axis(stretched(base.frequencies, self.pairs, length / self.margin))

    def factors(self, entropies: list[Tensor], grid: tuple[int, int], length: int) -> list[Tensor]:
        """Factors [B, heads] of every layer from the entropies [B, heads] of all layers."""
        import torch

        all_heads = torch.stack(entropies)  # [layers, B, heads]
        h_min, h_max = self.h_min, self.h_max
        if h_min is None:
            h_min = all_heads.amin(dim=(0, 2), keepdim=True)
        if h_max is None:
            largest = all_heads.amax(dim=(0, 2), keepdim=True)
            h_max = largest if self.constants == "paper" else self.largest_entropy(grid, length)
        return list(focus_factor(all_heads, self.lambda_min, self.lambda_max, h_min, h_max, self.power))

    def largest_entropy(self, grid: tuple[int, int], length: int) -> float:
        """The code's h_max at the size it was published for, else ln of the number of blocks (or tokens) of a joint
        sequence of `length` tokens, which it comes close to there."""
        tokens, value = published(self.geometry).largest
        size = self.block if self.entropy == "block" else 1
        return value if (grid[0] * grid[1], size) == (tokens, 128) else math.log(math.ceil(length / size))

    def hand_schedule(self, beyond: bool) -> str | float:
        if self.schedule != "own":
            return self.schedule
        if not published(self.geometry).static_shift:
            return "stock"
        return self.shift if beyond else "pinned"

    def steps_and_guidance(self, request: ImageRequest) -> tuple[int, float]:
        return (
            request.steps if self.steps == "run" else self.steps,
            request.guidance if self.guidance == "run" else self.guidance,
        )

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Tokens (height, width) of an image of (width, height) pixels."""
        return tuple(side // self.geometry.token_pixels for side in reversed(size))

    def stages(self, request: ImageRequest) -> list[Stage]:
        grid = self.grid(request.size)
        beyond = self.beyond(grid)
        steps, guidance = self.steps_and_guidance(request) if beyond else (request.steps, request.guidance)
        if not self.staged:
            return [Stage(request.size, steps, guidance, self.hand_schedule(beyond))]
        native = self.geometry.train_tokens * self.geometry.token_pixels
        first, second = (self.schedule if self.schedule != "own" else h for h in (self.base_shift, self.shift))
        size = (native, native) if beyond else request.size
        base = Stage(size, self.base_steps, self.base_guidance, first, plain=True)
        positions = self.direct or Unpadded(self.geometry, method=self, grid=grid)
        return [base, Stage(request.size, steps, guidance, second, windows=True, positions=positions)][: 1 + beyond]

    def sentences(self) -> tuple[str, ...]:
        return published(self.geometry).sentences if self.focus else ()

    def attended(self, step: Step, text: int, gpu: bool = False) -> Attended:
        whole, length = super().attended(step, text, gpu), step.grid[0] * step.grid[1] + text
        if "probe" not in step.details:
            return whole
        block = self.block if self.entropy == "block" else 1
        padded = -(-length // block) * block
        return whole + Attended(0, vectors=2 * length, singles=4 * length, maps=padded**2)

    def probes(self, step: Step) -> bool:
        return self.focus and self.beyond(step.grid) and step.index == 0

    def recoded(self, request: ImageRequest) -> dict[int, list[Coding]]:
        return enlargements(self.stages(request))

    def attention(self, index: int, generation: Generation | None) -> Attention | None:
        layers = generation.double_layers if self.proportional_length == "code" else 0
        proportional = LayeredProportion(self.geometry, layers)
        if self.focus:
            return Focus(self, proportional, self.grid(generation.stages[index].size) if self.staged else None)
        return proportional if self.proportional_attention else None

    def flow(self, index: int, generation: Generation) -> Callable[[Point], Tensor] | None:
        from .imax import IMax

        if not self.staged:
            return None
        return IMax(self.geometry, projection="cosine_decay", text_duplication=False).flow(index, generation)
