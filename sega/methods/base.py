"""What a method is.

A method is a frozen dataclass of parameters. It changes nothing unless it overrides a part. The part that every direct
method overrides is `positions`: rotary frequencies and magnitudes of the two image axes. Attention, flow and stages
are objects of one image: whatever has to be remembered between steps lives in the objects that a method returns.
`docs/engine.md` shows each part at work.

This module and those of the methods import torch only when positions are computed, so that a wrong name or value is
reported at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError
from sega.formulas.work import Attended, dense
from sega.methods.geometry import Geometry
from sega.methods.parameters import choice, parameters_of
from sega.methods.types import AttentionCall, Axis, Coding, Generation, ImageRequest, Point, Rope, Stage, Step

if TYPE_CHECKING:
    from torch import Tensor


class Attention:
    """An attention part; dense attention with a factor unless `attend` is overridden."""

    latent: ClassVar[bool] = False  # whether `attend` reads `call.step.latent`; samples then run one at a time

    def probes(self, step: Step) -> bool:
        """Whether the transformer is to run once more before this step, on the same inputs, to measure something.

        That call is a Step of its own, with `details["probe"]`, and its output is dropped.
        """
        return False

    def probe_text(self, step: Step) -> str | None:
        """The sentence that a measuring pass reads in place of the call's text, one of the method's `sentences`."""
        return None

    def factor(self, call: AttentionCall) -> Tensor | float | None:
        """What the logits are multiplied by: a number, [heads], or [B, heads]. None leaves them alone."""
        return None

    def attend(self, call: AttentionCall) -> Tensor:
        """The attention output [B, S, heads, d]."""
        factor = self.factor(call)
        q = call.q
        if factor is not None:
            factor = q.new_full((), factor) if isinstance(factor, float | int) else factor.to(q)
            q = q * (factor[:, None, :, None] if factor.dim() == 2 else factor[..., None])
        return call.dense(call.rotate(q), call.rotate(call.k), call.v)


@dataclass(frozen=True)
class Method:
    """Base of all methods: stock positions, and no other part.

    Subclasses add their parameters as fields declared by `sega.methods.parameters`. Wrong values raise RequestError on
    construction; after it every field holds the value in force.
    """

    geometry: Geometry
    schedule: str = choice(
        "pinned",
        "pinned",
        "stock",
        doc="pinned: the time shift of the training size at every size; stock: the scheduler's extrapolation",
    )

    name: ClassVar[str] = "vanilla"
    staged: ClassVar[bool] = False  # whether it needs `sega.generate`, because its parts work on a whole generation
    tied: ClassVar[bool] = False  # whether stages read the base's predictions at their own sigmas, so share its list

    def __post_init__(self) -> None:
        declared = parameters_of(type(self))
        for key, value in self.settle().items():
            if getattr(self, key) == declared[key][0]:
                object.__setattr__(self, key, value)
        for key, (_, parameter) in declared.items():
            object.__setattr__(self, key, parameter.check(self.name, key, getattr(self, key)))
        self.check()

    def settle(self) -> dict[str, Any]:
        """Values for parameters that are left at their default, where that stands for another value ("auto", None).

        Called once, before anything is checked.
        """
        return {}

    def check(self) -> None:
        """Raise RequestError for values that don't go together. Each by itself is checked before."""

    def parameters(self) -> dict[str, Any]:
        """Every parameter with the value in force; the geometry is not one."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "geometry"}

    def identity(self) -> dict[str, Any]:
        """The parameters that tell images apart: a later one counts from the moment it is changed."""
        declared = parameters_of(type(self))
        return {
            key: value
            for key, value in self.parameters().items()
            if key not in declared or not declared[key][1].later or value != declared[key][0]
        }

    def needs(self) -> set[str]:
        """What `positions` depends on besides the grid: a subset of {"sigma", "tokens", "latent"}.

        "tokens" asks for the embedded tokens and "latent" for the packed latent; either is handed over as `tokens`.
        """
        return set()

    def positions(self, grid: tuple[int, int], sigma: float = 1.0, tokens: Tensor | None = None) -> Rope:
        """Rotary values for a grid of (height, width) tokens at time sigma in [0, 1].

        `tokens` is [H*W, C], one sample, and is read by content-dependent methods only. An axis no longer than its
        training side keeps the base values, unless a method takes one ratio for both.
        """
        sides, sigma = check_grid(grid), check_sigma(sigma)
        height, width = self.axes(sides, sigma)
        return self.rope(height, width, text="base" if self.geometry.facts.text == "own" else "shared")

    def scales(self, grid: tuple[int, int]) -> tuple[float, float]:
        """Ratio of height and width to the training side; overridden where both sides of the grid decide."""
        return grid[0] / self.geometry.train_tokens, grid[1] / self.geometry.train_tokens

    def axes(self, grid: tuple[int, int], sigma: float) -> tuple[Axis, Axis]:
        """Values of height and width: the base where the ratio is at most 1, else `stretch`."""
        height, width = (
            base_axis(dim, self.geometry.theta) if ratio <= 1 else self.stretch(dim, ratio, sigma)
            for dim, ratio in zip(self.geometry.axes[1:], self.scales(grid), strict=True)
        )
        return height, width

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        """Values of an axis of `dim` rotary dimensions whose ratio is `scale` > 1; direct baselines override it."""
        return base_axis(dim, self.geometry.theta)

    def rope(self, height: Axis, width: Axis, text: str = "shared", details: dict[str, Any] | None = None) -> Rope:
        """Rope of two axes, marked stock when both are the base values exactly; magnitudes made on a GPU never are."""
        stock = all(
            axis.frequencies.equal(base_axis(dim, self.geometry.theta).frequencies)
            and axis.magnitudes.device.type == "cpu"
            and bool((axis.magnitudes == 1).all())
            for axis, dim in zip((height, width), self.geometry.axes[1:], strict=True)
        )
        return Rope(height, width, text, stock, details or {})

    def stages(self, request: ImageRequest) -> list[Stage]:
        """The passes that lead to an image of the requested size; one at that size by default."""
        return [Stage(request.size, request.steps, request.guidance, self.schedule)]

    def decoded_size(self, request: ImageRequest) -> tuple[int, int]:
        """(width, height) in pixels of the largest image that goes through the autoencoder, for estimates of memory."""
        return max((stage.size for stage in self.stages(request)), key=math.prod)

    def hand_schedule(self, beyond: bool) -> str | float:
        """The time shift when attached by hand, where no stage names one; `beyond`: larger than the training size."""
        return self.schedule

    def begin(self, index: int, generation: Generation) -> Tensor:
        """The latent [1, C, 2H, 2W] that stage `index` starts from; the image's noise of its size by default."""
        return generation.noise(generation.stages[index].size)

    def attended(self, step: Step, text: int, gpu: bool = False) -> Attended:
        """What each layer does in a step with `text` tokens of text, for estimates of cost; dense attention by default.

        A step of a measuring pass has `details["probe"]`. Where chance decides it is the mean, where the content of the
        image decides the most. `gpu` says which kernels run where a method has several.
        """
        return dense(step.grid[0] * step.grid[1] + text)

    def probes(self, step: Step) -> bool:
        """Whether a measuring pass comes before a step, for estimates of cost; see `Attention.probes`."""
        return False

    def recoded(self, request: ImageRequest) -> dict[int, list[Coding]]:
        """What goes through the autoencoder in each stage by its index, without the last image; to estimate cost."""
        return {}

    def attention(self, index: int, generation: Generation | None) -> Attention | None:
        """The attention part of stage `index`. `generation` is None when the method is attached by hand."""
        return None

    def flow(self, index: int, generation: Generation) -> Callable[[Point], Tensor] | None:
        """What turns each step's Point of stage `index` into the velocity to follow, [B, C, 2H, 2W]."""
        return None

    def sentences(self) -> tuple[str, ...]:
        """Sentences a measuring pass may read besides prompt and negative prompt; they are encoded beforehand."""
        return ()

    def text_positions(self, grid: tuple[int, int], index: int) -> list[tuple[int, int]]:
        """Positions (row, column) of the copies of the text; one copy at the origin by default."""
        return [(0, 0)]

    def finish(self, generation: Generation) -> Tensor:
        """The image [1, 3, H, W] in -1..1 from the last stage's latent."""
        assert generation.latent is not None  # a stage is done
        return generation.decode(generation.latent)


def base_axis(dim: int, theta: float) -> Axis:
    """Base frequencies and magnitude 1."""
    from sega.formulas.rope import base_frequencies

    return uniform_axis(base_frequencies(dim, theta))


def uniform_axis(frequencies: Tensor, magnitude: float = 1.0) -> Axis:
    """The same magnitude on every pair."""
    return Axis(frequencies, frequencies.new_full(frequencies.shape, magnitude))


def check_grid(grid: tuple[int, int]) -> tuple[int, int]:
    """The grid as two ints of at least 1, or RequestError."""
    sides = tuple(grid)
    if len(sides) != 2 or any(int(side) != side or side < 1 for side in sides):
        raise RequestError(f"grid={grid} must be two whole numbers of tokens (height, width), each at least 1")
    return int(sides[0]), int(sides[1])


def check_sigma(sigma: float) -> float:
    """The time as a float in [0, 1], or RequestError."""
    value = float(sigma)
    if not 0 <= value <= 1:
        raise RequestError(f"sigma={value} must lie between 0 (clean) and 1 (pure noise)")
    return value
