"""What the staged methods and plain upsampling share: a first image at the training size, and
the parts that several of them add to the stages after it.

s is the side of the training grid in tokens, N the tokens of a joint sequence, text included.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from sega.formulas.work import Attended
from sega.methods.base import Attention, Method, base_axis
from sega.methods.borrowed import DIRECT, Borrowing
from sega.methods.geometry import Geometry
from sega.methods.parameters import choice, count, number
from sega.methods.registry import build_method
from sega.methods.types import AttentionCall, Axis, Coding, Stage, Step

if TYPE_CHECKING:
    from sega.methods.types import Generation

PATTERNS = ("window", "resdit", "area", "ultraimage")
"""Methods with an attention part that needs nothing else of theirs; their positions stay behind."""


def fit(side: float, token: int) -> int:
    """A side in pixels as the nearest whole number of tokens, at least one."""
    return max(1, math.floor(side / token + 0.5)) * token


def base_size(size: tuple[int, int], geometry: Geometry) -> tuple[int, int]:
    """(width, height) of the first image: the aspect of `size`, about the area of the training size, whole tokens.

    A size no larger than the training area is its own base.
    """
    native = geometry.train_tokens * geometry.token_pixels
    if size[0] * size[1] <= native**2:
        return size
    aspect = math.sqrt(size[0] / size[1])
    return fit(native * aspect, geometry.token_pixels), fit(native / aspect, geometry.token_pixels)


def doublings(size: tuple[int, int], native: int) -> int:
    """The number of doublings from a base of about native x native pixels, the nearest on a logarithmic scale."""
    return max(0, math.floor(math.log2(math.sqrt(size[0] * size[1]) / native) + 0.5))


def stage_sizes(size: tuple[int, int], native: int, token: int) -> list[tuple[int, int]]:
    """(width, height) of the base and after each doubling, the last one `size` (ScaleDiff, FreeScale, PixelRush).

    Each is half the next, as the nearest whole number of tokens: exactly half wherever that is possible. The code of
    ScaleDiff asks for sides of 32 tokens times a power of two.
    """
    sizes = [(size[0], size[1])]
    for _ in range(doublings(size, native)):
        width, height = sizes[0]
        sizes.insert(0, (fit(width / 2, token), fit(height / 2, token)))
    return sizes


def restart_index(steps: int, share: float) -> int:
    """floor(steps share): the entry of the list of times that a stage starts from which skips a share of it."""
    return math.floor(round(steps * share, 9))


def proportional_factor(tokens: int, native_tokens: int) -> float:
    """sqrt(ln N / ln N0), proportional attention's factor on the logits; N0 = s^2 + text (FLUX: 4608)."""
    return math.sqrt(math.log(tokens) / math.log(native_tokens))


def enlargements(stages: list[Stage]) -> dict[int, list[Coding]]:
    """What goes through the autoencoder where each stage decodes the latent before it, and encodes it at its size."""
    sizes = itertools.pairwise(stage.size for stage in stages)
    return {index: [Coding(before), Coding(after, encodes=True)] for index, (before, after) in enumerate(sizes, 1)}


class ProportionalAttention(Attention):
    """All logits times `proportional_factor` of the sequence at hand."""

    def __init__(self, geometry: Geometry):
        self.native_tokens = geometry.train_tokens**2 + geometry.text_tokens

    def factor(self, call: AttentionCall) -> float:
        return proportional_factor(call.q.shape[1], self.native_tokens)


@dataclass(frozen=True)
class FactorNTK(Method):
    """Both axes at the base theta * factor, whatever their length and without a clip (HiFlow, HRDiT)."""

    factor: float = number(1.0, low=1, doc="on theta")

    name: ClassVar[str] = "ntk_factor"

    def axes(self, grid: tuple[int, int], sigma: float) -> tuple[Axis, Axis]:
        height, width = (base_axis(dim, self.geometry.theta * self.factor) for dim in self.geometry.axes[1:])
        return height, width


@dataclass(frozen=True)
class FromBase(Method):
    """A method whose first image comes from the model as it is, with `base_steps` steps and `base_guidance`.

    Methods whose first stages are equal share that image.
    """

    base_steps: int = count(30, doc="steps of the base image, and of the list of sigmas that all stages share")
    base_guidance: float = number(3.5, low=0, doc="guidance of the base image")

    staged: ClassVar[bool] = True

    def base_stage(self, size: tuple[int, int], schedule: str | float = "pinned") -> Stage:
        """The model as it is at `size` (width, height)."""
        return Stage((size[0], size[1]), self.base_steps, self.base_guidance, schedule, plain=True)


@dataclass(frozen=True)
class Staged(FromBase, Borrowing):
    """A method with stages after the base. `positions_of` and `attention_of` are for these; the base is the model as
    it is.

    `attention_of` names the method whose attention stands in for all of this one's, with its default parameters. Only
    attention is taken, positions are those of `positions_of`. A pattern that counts steps counts those of the stage.
    """

    positions_of: str = choice(
        "own", "own", *DIRECT, doc="whose positions the stages after the base have; own: those of this method"
    )
    attention_of: str = choice(
        "own",
        "own",
        *PATTERNS,
        later=True,
        doc="whose attention the stages after the base have; own: that of this method",
    )

    @cached_property
    def pattern(self) -> Method | None:
        """The method that `attention_of` names; None for the method's own attention."""
        return None if self.attention_of == "own" else build_method({"name": self.attention_of}, self.geometry)

    def attention(self, index: int, generation: Generation | None) -> Attention | None:
        if self.pattern is not None and index > 0:
            return self.pattern.attention(index, generation)
        return self.own_attention(index, generation)

    def own_attention(self, index: int, generation: Generation | None) -> Attention | None:
        """Attention without `attention_of`; the model's own by default."""
        return None

    def attended(self, step: Step, text: int, gpu: bool = False) -> Attended:
        if self.pattern is not None and step.stage > 0:
            return self.pattern.attended(step, text, gpu)
        return self.own_attended(step, text, gpu)

    def own_attended(self, step: Step, text: int, gpu: bool) -> Attended:
        """What each layer does without `attention_of`; dense attention by default."""
        return super().attended(step, text, gpu)

    def probes(self, step: Step) -> bool:
        return self.pattern is not None and step.stage > 0 and self.pattern.probes(step)

    def sentences(self) -> tuple[str, ...]:
        return self.pattern.sentences() if self.pattern is not None else ()
