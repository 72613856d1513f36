"""The values that methods and the engine exchange: positions, steps, stages, attention calls, one generation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Axis:
    """Rotary values of one image axis; K pairs."""

    frequencies: Tensor  # float64 [K], radians per token
    magnitudes: Tensor  # float64 [K], factor on cos and sin, so logits of the pair scale by its square


@dataclass(frozen=True, eq=False)
class Rope:
    """Rotary values of both image axes. The frame axis always keeps its base frequencies and magnitude 1."""

    height: Axis
    width: Axis
    text: str = "shared"  # "shared": text rows use these values too; "base": text keeps base frequencies, magnitude 1
    stock: bool = False  # both axes equal the model's own values exactly: the adapter then leaves its table alone
    details: dict[str, Any] = field(default_factory=dict)  # what an observer may record


@dataclass
class Step:
    """One transformer call, as methods, observers and timing see it."""

    index: int
    sigma: float
    grid: tuple[int, int]  # tokens (height, width)
    stage: int = 0
    branch: str = "cond"  # "uncond" for the second call of true classifier-free guidance
    samples: int = 1  # of the batch
    sigmas: tuple[float, ...] = ()  # of all steps of the stage; empty where no scheduler drives the transformer
    tokens: Tensor | None = None  # [H*W, C] float32, embedded tokens of one sample, where they are recorded
    latent: Tensor | None = None  # [H*W, 4C] packed latent of one sample
    seconds: float = 0.0
    share: float = 1.0  # of the call's operations, what ran: less where a cache left out blocks
    details: dict[str, Any] = field(default_factory=dict)


class PositionSource(Protocol):
    """What gives the positions of a stage: any method does."""

    name: ClassVar[str]

    def identity(self) -> dict[str, Any]: ...

    def needs(self) -> set[str]: ...

    def positions(self, grid: tuple[int, int], sigma: float = 1.0, tokens: Tensor | None = None) -> Rope: ...


@dataclass(frozen=True)
class ImageRequest:
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
    # "pinned", "stock", `shift_of(tokens)`, or a static h: h u / (1 + (h - 1) u); or the `steps` sigmas themselves
    schedule: str | float | tuple[float, ...] = "pinned"
    first: int = 0
    last: int | None = None
    plain: bool = False  # the model as it is: no part of the method applies, and the result can be shared
    windows: bool = False  # shift token borders by half a token on every other step
    positions: PositionSource | None = None  # whose positions apply; None: those of the method itself
    suffix: str = ""  # added to the prompt of this stage; the noise stays that of the prompt itself

    def grid(self) -> list[float]:
        """The entries of the linear grid that this stage takes, before the shift."""
        from sega.formulas.schedules import linear_grid

        return [float(u) for u in linear_grid(self.steps)[self.first : self.last]]

    @property
    def taken(self) -> int:
        """How many steps are taken."""
        return len(range(self.steps)[self.first : self.last])

    def identity(self) -> dict[str, Any]:
        """The stage as plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if isinstance(self.schedule, tuple):
            values["schedule"] = list(self.schedule)
        if self.positions is not None:
            values["positions"] = {"name": self.positions.name, **self.positions.identity()}
        return {**values, "size": list(self.size)}


@dataclass(frozen=True)
class Coding:
    """An image that goes through the autoencoder."""

    size: tuple[int, int]  # pixels (width, height)
    encodes: bool = False  # from pixels to a latent; else the other way


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
class AttentionCall:
    """One attention layer in one transformer call; q, k, v are [B, S, heads, d], text first, normalised, unrotated."""

    q: Tensor
    k: Tensor
    v: Tensor
    text: int  # how many of the S tokens are text
    grid: tuple[int, int]  # image tokens (height, width)
    layer: int  # 0-based, in the order they run
    layers: int
    step: Step
    ids: Tensor = field(repr=False)  # [S, 3] float32 (frame, row, column) of the joint sequence; FLUX.2 has 4 columns
    # rotate(x, ids=None, rope=None): x turned by the positions of this call; for other tokens than the joint sequence
    # give their ids [S', 3] (frame, row, column), for other frequencies a Rope.
    rotate: Callable[..., Tensor]
    # text_ids(place, size): ids [T, 3] of the text of a smaller image of `size` tokens whose first is the image token
    # at `place`, so that the two are to each other as they are in training.
    text_ids: Callable[[tuple[int, int], tuple[int, int]], Tensor]
    # dense(q, k, v, scale=None, mask=None): softmax(q k^T scale) v by the backend of the layer, [B, S, heads, d];
    # the mask is bool, broadcast to [B, heads, S, S'], and false where a pair does not count.
    dense: Callable[..., Tensor]

    @property
    def tokens(self) -> int:
        """H*W, the tokens of the image."""
        return self.grid[0] * self.grid[1]

    @property
    def end(self) -> int:
        """Where the image ends; behind it are the tokens of reference images, if there are any."""
        return self.text + self.tokens

    def image(self, x: Tensor) -> Tensor:
        """The H*W tokens of the image of a joint sequence [B, S, ...]."""
        return x[:, self.text : self.end]

    def others(self, x: Tensor) -> Tensor:
        """The text and, behind it, the tokens of reference images of a joint sequence."""
        import torch

        text, references = x[:, : self.text], x[:, self.end :]
        return torch.cat([text, references], 1) if references.shape[1] else text

    def join(self, others: Tensor, image: Tensor) -> Tensor:
        """A joint sequence from its two parts."""
        import torch

        return torch.cat([others[:, : self.text], image, others[:, self.text :]], 1)

    def turn_others(
        self, x: Tensor, windows: list[tuple[tuple[int, int], tuple[int, int]]], rope: Rope | None = None
    ) -> Tensor:
        """The others x [B, T, heads, d] rotated for each of n windows, [n, B, T, heads, d].

        A window has a place and a size: the text is as that of an image of `size` tokens whose first is the token at
        `place`.
        """
        import torch

        references = self.ids[self.end :]
        ids = [part for window in windows for part in (self.text_ids(*window).to(self.ids), references)]
        turned = self.rotate(x.repeat(1, len(windows), 1, 1), ids=torch.cat(ids), rope=rope)
        return torch.stack(turned.chunk(len(windows), 1))


class Generation(Protocol):
    """One image while it is generated: what a method may read and use of it, and what it may leave there.

    Latents are [1, C, 2H, 2W], images [1, 3, H, W] in -1..1.
    """

    request: ImageRequest
    stages: list[Stage]
    generator: torch.Generator  # for all randomness besides the noise, seeded by the image
    latent: Tensor | None  # of the last stage done
    guide: Tensor | None  # a clean latent that `begin` may leave for the flow of the same stage
    state: Any  # whatever the method itself keeps from stage to stage; None at the start
    predictions: dict[float, Tensor]  # sigma -> clean prediction [1, C, h, w]

    @property
    def device(self) -> torch.device: ...

    @property
    def double_layers(self) -> int:
        """How many of the attention layers, the first ones, have weights of their own for text."""
        ...

    def noise(self, size: tuple[int, int]) -> Tensor:
        """The noise of this seed and prompt at a size in pixels, float32; the same for every method."""
        ...

    def random(self, shape: tuple[int, ...]) -> Tensor:
        """Fresh Gaussian values from the generator of this image."""
        ...

    def sigmas(self, index: int) -> list[float]:
        """The sigmas of a stage, and the final 0."""
        ...

    def decode(self, latent: Tensor) -> Tensor: ...

    def encode(self, image: Tensor, sample: bool = False) -> Tensor: ...
