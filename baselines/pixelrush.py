"""PixelRush (arXiv 2602.12769): doublings whose overlapping patches are partly noised and denoised in one step each.

Published for SDXL and SDXL-Turbo, without code; this is our form for rectified flows, where a prediction v stands for
the noise e = x + (1 - sigma) v and the clean latent x - sigma v. Arithmetic first, then the method. Latents are
[B, C, 2H, 2W] in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from sega.methods.parameters import choice, count, number
from sega.methods.staged import FromBase, stage_sizes
from sega.methods.types import Coding, ImageRequest, Point, Stage

from .kernels.tiled import gaussian
from .kernels.windows import Box

if TYPE_CHECKING:
    from torch import Tensor

    from sega.methods.types import Generation


def starts(length: int, patch: int, overlap: float) -> list[int]:
    """Where patches of an axis begin: every patch (1 - overlap), and the last one flush with the end."""
    stride = max(1, math.floor(patch * (1 - overlap) + 0.5))
    return [*range(0, length - patch, stride), max(0, length - patch)]


def patches(grid: tuple[int, int], side: int, overlap: float) -> list[Box]:
    """The patches of a grid (height, width), row by row; an axis shorter than `side` tokens has one, of its length."""
    height, width = (min(side, length) for length in grid)
    tops, lefts = starts(grid[0], height, overlap), starts(grid[1], width, overlap)
    return [Box(top, left, height, width) for top in tops for left in lefts]


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """(sin(w O) a + sin((1 - w) O) b)/sin O, O the angle between a and b as one vector a sample, w = `weight` of a.

    w a + (1 - w) b where the two are collinear.
    """
    import torch

    pair = [x.flatten(1).double() for x in (a, b)]
    angle = torch.cosine_similarity(*pair).clamp(-1, 1).acos()
    line = angle.sin() < 1e-6
    sine = torch.where(line, 1.0, angle.sin())
    shares = (torch.where(line, part, (part * angle).sin() / sine) for part in (weight, 1 - weight))
    first, second = (share.to(a).view(-1, *[1] * (a.dim() - 1)) for share in shares)
    return first * a + second * b


def noise_of(point: Point) -> Tensor:
    """e = x + (1 - sigma) v: the noise that the model sees in x."""
    return point.x + (1 - point.sigma) * point.velocity


def inverted(point: Point) -> Tensor:
    """The velocity (x - e)/sigma that leads to the noise of x and not to its clean latent: what an inversion is for."""
    return (point.x - noise_of(point)) / point.sigma


class Injection:
    """The flow part of a patch: its predicted noise is mixed with fresh noise by `slerp`."""

    def __init__(self, weight: float, generation: Generation):
        """`weight` is that of the prediction."""
        self.weight, self.generation = weight, generation

    def __call__(self, point: Point) -> Tensor:
        """v = e - x0 = (e - x)/(1 - sigma) for the mixed noise e, with x = (1 - sigma) x0 + sigma e."""
        fresh = self.generation.random(tuple(point.x.shape)).to(point.x)
        return (slerp(noise_of(point), fresh, self.weight) - point.x) / (1 - point.sigma)


class Mosaic:
    """A doubling while it is made: what its patches start from, and the weighted sum of those that are done."""

    def __init__(self, clean: Tensor, noise: Tensor, share: float):
        """`clean` [1, C, 2H, 2W] is the enlarged image, `noise` that of its size, `share` that of its Gaussian."""
        self.clean, self.noise, self.share = clean.float(), noise, share
        self.total = self.clean.new_zeros(clean.shape)
        self.weight = self.clean.new_zeros(clean.shape[-2:])

    def add(self, patch: Box, latent: Tensor) -> None:
        """Add a finished patch [1, C, 2h, 2w]."""
        weights = gaussian((latent.shape[-2], latent.shape[-1]), self.share).to(self.total)
        patch.of_latent(self.total).add_(weights * latent.to(self.total))
        patch.of_latent(self.weight).add_(weights)

    def latent(self) -> Tensor:
        """sum(w y)/sum(w)."""
        return self.total / self.weight


class Pass(NamedTuple):
    """What a stage after the base is for."""

    doubling: int  # from 1
    patch: Box
    inverts: bool  # looks for the noise of the patch; else it denoises it


@dataclass(frozen=True)
class PixelRush(FromBase):
    """A base image, then doublings: decoded, enlarged, encoded, and refined patch by patch at the training size.

    Each patch starts at `sigma` and goes to 0 in `steps` steps of the model; patches are added up with Gaussian
    weights. 0.409 is where a flow has the noise-to-signal ratio of SDXL's step K = 249 (a share of signal of 0.675),
    0.028 that of its step 0. The paper takes its one step with SDXL-Turbo; here it is the model itself, so a few-step
    one (`model=flux_schnell`) is nearest to it. Accounts of the paper leave open which argument of slerp has the 0.95.
    As the weight of the fresh noise it would leave nothing but noise, so here it is that of the prediction.
    """

    sigma: float = number(
        0.409, low=0.001, high=0.99, doc="where a patch starts; published: step 249 of SDXL, which has this noise"
    )
    steps: int = count(1, doc="of the model for each patch, of equal length in sigma; published: 1")
    guidance: float = number(3.5, low=0, doc="of these steps")
    inversion: str = choice(
        "noise",
        "noise",
        "velocity",
        doc="of a patch; noise: the noise of the image; velocity: what the model sees in the patch, as published",
    )
    inversion_sigma: float = number(
        0.028, low=0.001, high=0.5, doc="of the inversion by velocity; published: step 0 of SDXL, which has this noise"
    )
    inversion_guidance: float = number(1.0, low=0, doc="of the inversion by velocity; not published")
    prediction_weight: float = number(
        0.95, low=0, high=1, doc="of the predicted noise in its slerp with fresh noise; 1: no fresh noise"
    )
    patch: int | None = count(None, doc="tokens of a side; null: the training grid (FLUX: 64)")
    overlap: float = number(0.5, low=0, high=0.9, doc="of neighbouring patches, as a share of a patch")
    feather: float = number(
        0.2, low=0.01, high=100, doc="deviation of the Gaussian weights of a patch, as a share of its side"
    )

    name: ClassVar[str] = "pixelrush"

    def settle(self) -> dict[str, Any]:
        return {"patch": self.geometry.train_tokens}

    def sizes(self, request: ImageRequest) -> list[tuple[int, int]]:
        """(width, height) of the base and after each doubling."""
        geometry = self.geometry
        return stage_sizes(request.size, geometry.train_tokens * geometry.token_pixels, geometry.token_pixels)

    def passes(self, request: ImageRequest) -> list[Pass]:
        """What the stages after the base are for, in their order."""
        token, kinds = self.geometry.token_pixels, (True, False) if self.inversion == "velocity" else (False,)
        return [
            Pass(doubling, patch, inverts)
            for doubling, (width, height) in enumerate(self.sizes(request)[1:], 1)
            for patch in patches((height // token, width // token), self.patch, self.overlap)
            for inverts in kinds
        ]

    def stages(self, request: ImageRequest) -> list[Stage]:
        return [
            self.base_stage(self.sizes(request)[0], self.schedule),
            *(self.stage(item) for item in self.passes(request)),
        ]

    def stage(self, item: Pass) -> Stage:
        """The model at the size of a patch."""
        token = self.geometry.token_pixels
        size = item.patch.width * token, item.patch.height * token
        if item.inverts:
            return Stage(size, 1, self.inversion_guidance, (self.inversion_sigma,))
        sigmas = tuple(self.sigma * (self.steps - k) / self.steps for k in range(self.steps))
        return Stage(size, self.steps, self.guidance, sigmas)

    def decoded_size(self, request: ImageRequest) -> tuple[int, int]:
        return request.size

    def recoded(self, request: ImageRequest) -> dict[int, list[Coding]]:
        sizes, found, done = self.sizes(request), {}, 0
        for index, item in enumerate(self.passes(request), 1):
            if item.doubling > done:
                done = item.doubling
                found[index] = [Coding(sizes[done - 1]), Coding(sizes[done], encodes=True)]
        return found

    def begin(self, index: int, generation: Generation) -> Tensor:
        passes = self.passes(generation.request)
        here, before = passes[index - 1], passes[index - 2] if index > 1 else None
        self.collect(before, generation)
        if before is None or before.doubling < here.doubling:
            generation.state = self.mosaic(here.doubling, generation)
        clean = here.patch.of_latent(generation.state.clean)
        if here.inverts:
            return clean
        # An inversion, which is the stage before, ended with the noise.
        noise = generation.latent if self.inversion == "velocity" else here.patch.of_latent(generation.state.noise)
        return (1 - self.sigma) * clean + self.sigma * noise

    def collect(self, done: Pass | None, generation: Generation) -> None:
        """Add what the last stage left to the doubling it belongs to, if it is a finished patch."""
        if done is not None and not done.inverts:
            generation.state.add(done.patch, generation.latent)

    def mosaic(self, doubling: int, generation: Generation) -> Mosaic:
        """Begin a doubling: the image before it goes through pixels to the size after it."""
        from sega.formulas.filters import bicubic

        width, height = self.sizes(generation.request)[doubling]
        latent = generation.latent if generation.state is None else generation.state.latent()
        clean = generation.encode(bicubic(generation.decode(latent), (height, width), antialias=True))
        return Mosaic(clean, generation.noise((width, height)), self.feather)

    def flow(self, index: int, generation: Generation) -> Any:
        if self.passes(generation.request)[index - 1].inverts:
            return inverted
        return Injection(self.prediction_weight, generation) if self.prediction_weight < 1 else None

    def finish(self, generation: Generation) -> Tensor:
        passes = self.passes(generation.request)
        if not passes:
            return super().finish(generation)
        self.collect(passes[-1], generation)
        return generation.decode(generation.state.latent())
