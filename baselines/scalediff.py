"""ScaleDiff (KSH00906/ScaleDiff): doublings in which every query patch attends to a window of the training size.

Arithmetic first, then the method; its attention is in `kernels/neighbourhood.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError
from sega.methods.base import Attention
from sega.methods.parameters import choice, count, flag, number, text
from sega.methods.staged import Staged, stage_sizes
from sega.methods.types import AttentionCall, ImageRequest, Point, Stage

from .kernels.neighbourhood import Layout, fitted, neighbourhood_attention

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sega.methods.types import Generation


def refine(prediction: Tensor, reference: Tensor, weight: float, factor: float) -> Tensor:
    """prediction + weight (LP reference - LP prediction), LP the resize low-pass; latents [B, C, P, Q].

    With weight sigma it is the structure guidance of a step; with weight 1 and the roles of the two upsampled latents
    it is the frequency mixing at the start of a doubling.
    """
    from sega.formulas.filters import resize_lowpass

    return prediction + weight * (resize_lowpass(reference, factor) - resize_lowpass(prediction, factor))


def restart_index(steps: int, strength: float) -> int:
    """floor(steps (1 - strength)): the entry of the list of times that a doubling starts from."""
    return math.floor(round(steps * (1 - strength), 9))


class Neighbourhood(Attention):
    """`neighbourhood_attention` in every layer; a new jitter for every call, from the image's own generator."""

    def __init__(self, method: ScaleDiff, generator: torch.Generator):
        self.method, self.generator = method, generator

    def jitter(self, grid: tuple[int, int]) -> tuple[int, int] | None:
        """Two integers, each uniform in 0 ... patch."""
        import torch

        if not self.method.jitter:
            return None
        _, patch = fitted(grid, self.method.windows, self.method.patches)
        return tuple(int(torch.randint(0, side + 1, (), generator=self.generator)) for side in patch)

    def attend(self, call: AttentionCall) -> Tensor:
        import torch

        text, (window, _) = call.text, fitted(call.grid, self.method.windows, self.method.patches)

        def rotate_text(x: Tensor, place: tuple[int, int]) -> Tensor:
            return call.rotate(x, ids=call.text_ids(place, window))

        q, k = call.rotate(call.q), call.rotate(call.k)
        method, offset = self.method, self.jitter(call.grid)
        layout = Layout(method.windows, method.patches, offset, method.memory_mb)
        image, words = neighbourhood_attention(
            q[:, text:],
            k[:, text:],
            call.v[:, text:],
            (call.q[:, :text], call.k[:, :text], call.v[:, :text]),
            call.grid,
            rotate_text,
            call.dense,
            layout,
        )
        return torch.cat([words, image], dim=1)


class StructureGuidance:
    """The flow part of a doubling: the low band of the clean prediction moves towards that of the upsampled image."""

    def __init__(self, guide: Tensor, factor: float):
        self.guide, self.factor = guide, factor

    def __call__(self, point: Point) -> Tensor:
        """x0 <- x0 + sigma (LP z - LP x0), v = (x - x0)/sigma."""
        clean = refine(point.clean, self.guide, point.sigma, self.factor)
        return (point.x - clean) / point.sigma


@dataclass(frozen=True)
class ScaleDiff(Staged):
    """A base image, then doublings of its side, each from the image before, enlarged and partly noised.

    The base is the target halved as often as brings it nearest to the training size; with no doubling it is all there
    is. All stages share one list of `base_steps` times, of which a doubling takes the last `strength`. `lowpass` is
    the factor of the resize low-pass (0.25; SDXL: 0.125). `window` is the side of the training grid (FLUX: 64 tokens)
    and `patch` half of it unless given. `suffix` is added to the prompt of the doublings; the published example has
    ", highly detailed, 4k resolution, best quality". `memory_mb` bounds the copies that attention makes of its
    inputs.
    """

    schedule: str = choice("pinned", "pinned", doc="the time shift of the training size in all stages")
    guidance: float = number(3.5, low=0, doc="in the doublings")
    strength: float = number(
        0.6, low=0.01, high=1, doc="share of the list of sigmas that a doubling takes, from its end"
    )
    lowpass: float = number(
        0.25, low=0.001, high=1, doc="factor of the resize low-pass of mixing and guidance; published for SDXL: 0.125"
    )
    window: int | None = count(None, doc="tokens of a side; null: the training grid (FLUX: 64)")
    patch: int | None = count(None, doc="tokens of a side; null: half the window")
    jitter: bool = flag(True, doc="patch borders move from call to call, by the seed of the image")
    memory_mb: float = number(1024.0, low=0, doc="of the copies of queries, keys, values and outputs made at a time")
    suffix: str = text(
        "", doc='added to the prompt in the doublings; published: ", highly detailed, 4k resolution, best quality"'
    )

    name: ClassVar[str] = "scalediff"

    def settle(self) -> dict[str, Any]:
        window = self.geometry.train_tokens if self.window is None else self.window
        return {"window": window, "patch": max(1, window // 2) if isinstance(window, int) else 1}

    def check(self) -> None:
        if self.patch > self.window:
            raise RequestError(f"{self.name}: patch={self.patch} must not exceed window={self.window}")

    @property
    def windows(self) -> tuple[int, int]:
        return self.window, self.window

    @property
    def patches(self) -> tuple[int, int]:
        return self.patch, self.patch

    def stages(self, request: ImageRequest) -> list[Stage]:
        geometry = self.geometry
        native = geometry.train_tokens * geometry.token_pixels
        base, *targets = stage_sizes(request.size, native, geometry.token_pixels)
        first = restart_index(self.base_steps, self.strength)
        return [self.base_stage(base)] + [
            Stage(size, self.base_steps, self.guidance, first=first, positions=self.direct, suffix=self.suffix)
            for size in targets
        ]

    def begin(self, index: int, generation: Generation) -> Tensor:
        from sega.formulas.filters import bicubic

        width, height = generation.stages[index].size
        noise, latent = generation.noise((width, height)), generation.latent.float()
        pixels = generation.encode(bicubic(generation.decode(generation.latent), (height, width)), sample=True)
        generation.guide = refine(pixels, bicubic(latent, tuple(noise.shape[-2:])), 1.0, self.lowpass)
        entry = generation.sigmas(index)[0]
        return (1 - entry) * generation.guide + entry * noise

    @property
    def attends_densely(self) -> bool:
        return False

    def attention(self, index: int, generation: Generation) -> Attention:
        return Neighbourhood(self, generation.generator)

    def flow(self, index: int, generation: Generation) -> StructureGuidance:
        return StructureGuidance(generation.guide, self.lowpass)
