"""The parts a method may offer besides positions, and what the engine hands them.

Attention, flow and stages are objects of one image: a method is a frozen set of parameters, so whatever has to be
remembered between steps lives in the objects it returns here. `docs/engine.md` shows each part at work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sega.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from sega.engine.sampling import Run
    from sega.methods.base import Method, Step


@dataclass(frozen=True)
class Request:
    """What is asked of a generation."""

    size: tuple[int, int]  # pixels (width, height)
    steps: int
    guidance: float


@dataclass(frozen=True)
class Stage:
    """One pass of the stock pipeline.

    The times are entries first..last of the list of `steps` entries that `schedule` gives, so that stages of
    different length share their time stamps.
    """

    size: tuple[int, int]  # pixels (width, height)
    steps: int
    guidance: float
    schedule: str | float = "pinned"  # "pinned", "stock", `shift_of(tokens)`, or a static h: h u / (1 + (h - 1) u)
    first: int = 0
    last: int | None = None
    plain: bool = False  # the model as it is: no part of the method applies, and the result can be shared
    windows: bool = False  # shift token borders by half a token on every other step
    positions: Method | None = None  # whose positions apply; None: those of the method itself
    suffix: str = ""  # added to the prompt of this stage; the noise stays that of the prompt itself

    def grid(self) -> list[float]:
        """The entries of the linear grid that this stage takes, before the shift."""
        from sega.formulas.schedules import linear_grid

        return [float(u) for u in linear_grid(self.steps)[self.first : self.last]]

    @property
    def taken(self) -> int:
        """How many steps are taken."""
        return len(range(self.steps)[self.first : self.last])


@dataclass
class Point:
    """One step as a flow correction sees it, after classifier-free guidance; latents [B, C, 2H, 2W] in float32."""

    x: Tensor
    velocity: Tensor
    sigma: float
    next_sigma: float
    index: int  # of the step within its stage
    steps: int  # taken in this stage
    stage: int
    stored: Tensor | None = None  # the clean prediction an earlier stage left at this time, at its own size

    @property
    def clean(self) -> Tensor:
        """x - sigma v."""
        return self.x - self.sigma * self.velocity

    def align(self, latent: Tensor) -> Tensor:
        """A latent brought to the size of `x` by a border of one cell, zeros or cut away (shifted windows)."""
        return align(latent, (self.x.shape[-2], self.x.shape[-1]))


def align(latent: Tensor, size: tuple[int, int]) -> Tensor:
    """[..., h, w] padded with zeros or cropped evenly on all sides to `size`."""
    import torch.nn.functional as F

    y, x = ((new - old) // 2 for new, old in zip(size, latent.shape[-2:], strict=True))
    return F.pad(latent, (x, x, y, y))


@dataclass
class Call:
    """One attention layer in one transformer call; q, k, v are [B, S, heads, d], text first, normalised, unrotated."""

    q: Tensor
    k: Tensor
    v: Tensor
    text: int  # how many of the S tokens are text
    grid: tuple[int, int]  # image tokens (height, width)
    layer: int  # 0-based, in the order they run
    layers: int
    step: Step
    ids: Tensor = field(repr=False)  # [S, 3] float32 (frame, row, column) of the joint sequence
    # rotate(x, ids=None, rope=None): x turned by the positions of this call; for other tokens than the joint sequence
    # give their ids [S', 3] (frame, row, column), for other frequencies a Rope.
    rotate: Callable[..., Tensor]
    # text_ids(place, size): ids [T, 3] of the text of a smaller picture of `size` tokens whose first is the image token
    # at `place`, so that the two are to each other as they are in training.
    text_ids: Callable[[tuple[int, int], tuple[int, int]], Tensor]
    # dense(q, k, v, scale=None): softmax(q k^T scale) v by the backend of the layer, [B, S, heads, d].
    dense: Callable[..., Tensor]


class Attention:
    """An attention part; dense attention with a factor unless `attend` is overridden."""

    def rehearse(self, step: Step) -> bool:
        """Whether the transformer is to run once more before this step, on the same inputs, to measure something.

        That call is a Step of its own, with `details["rehearsal"]`, and its output is dropped.
        """
        return False

    def rehearsal_text(self, step: Step) -> str | None:
        """The sentence that a measuring pass reads in place of the call's text, one of the method's `sentences`."""
        return None

    def factor(self, call: Call) -> Tensor | float | None:
        """What the logits are multiplied by: a number, [heads], or [B, heads]. None leaves them alone."""
        return None

    def attend(self, call: Call) -> Tensor:
        """The attention output [B, S, heads, d]."""
        factor = self.factor(call)
        q = call.q
        if factor is not None:
            factor = q.new_tensor(factor) if isinstance(factor, float | int) else factor.to(q)
            q = q * (factor[:, None, :, None] if factor.dim() == 2 else factor[..., None])
        return call.dense(call.rotate(q), call.rotate(call.k), call.v)


class Parts:
    """The optional parts, each doing nothing."""

    staged = False  # whether it needs `sega.generate`, because its parts work on a whole generation

    def stages(self, request: Request) -> list[Stage]:
        """The passes that lead to an image of the requested size; one at that size by default."""
        return [Stage(request.size, request.steps, request.guidance, self.schedule)]

    def hand_schedule(self, beyond: bool) -> str | float:
        """The time shift when attached by hand, where no stage names one; `beyond`: larger than the training size."""
        return self.schedule

    def begin(self, index: int, run: Run) -> Tensor:
        """The latent [1, C, 2H, 2W] that stage `index` starts from; the image's noise of its size by default."""
        return run.noise(run.stages[index].size)

    def attention(self, index: int, run: Run | None) -> Attention | None:
        """The attention part of stage `index`. `run` is None when the method is attached by hand."""
        return None

    def flow(self, index: int, run: Run) -> Callable[[Point], Tensor] | None:
        """What turns each step's Point of stage `index` into the velocity to follow, [B, C, 2H, 2W]."""
        return None

    def sentences(self) -> tuple[str, ...]:
        """Sentences a measuring pass may read besides prompt and negative prompt; they are encoded beforehand."""
        return ()

    def text_places(self, grid: tuple[int, int], index: int) -> list[tuple[int, int]]:
        """Positions (row, column) of the copies of the text; one copy at the origin by default."""
        return [(0, 0)]

    def finish(self, run: Run) -> Tensor:
        """The picture [1, 3, H, W] in -1..1 from the last stage's latent."""
        return run.decode(run.latent)


def check_size(size: tuple[int, int], token_pixels: int) -> None:
    """Refuse sides that are not a positive multiple of a token."""
    for side in size:
        if side < token_pixels or side % token_pixels:
            below = max(side // token_pixels, 1) * token_pixels
            raise RequestError(
                f"size {size[0]}x{size[1]} is not a multiple of {token_pixels} px, the size of a token; "
                f"nearest to {side} are {below} and {below + token_pixels}"
            )
