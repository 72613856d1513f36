"""ScaleDiff (KSH00906/ScaleDiff): doublings in which every query patch attends to a window of the training size.

Arithmetic first, then the method; its windows are those of `kernels/windows.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError
from sega.formulas.work import Attended
from sega.methods.base import Attention
from sega.methods.parameters import choice, count, flag, number, text
from sega.methods.staged import Staged, enlargements, restart_index, stage_sizes
from sega.methods.types import AttentionCall, Coding, ImageRequest, Point, Stage, Step

from .kernels.tile_cost import neighbourhood_axis, tiles_attended
from .kernels.tiled import attend_call, paste
from .kernels.windows import neighbourhoods

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


def fitted(grid: tuple[int, int], window: int, patch: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Sides of window and patch, no longer on any axis than the grid and the window."""
    windows = (min(window, grid[0]), min(window, grid[1]))
    return windows, (min(patch, windows[0]), min(patch, windows[1]))


class Neighbourhood(Attention):
    """Every patch of queries with a copy of the text attends to the text and the window around the patch.

    Image tokens are rotated by their place in the image, the text as is right for an image that begins where the window
    does: on FLUX as the first token of the window, so that it keeps its trained offset. Text outputs are the mean over
    patches, those that jitter moves beyond the image included, as in the code. Jitter is new for every call, from the
    generator of the image. A side shorter than the window gets a window of that side.
    """

    def __init__(self, method: ScaleDiff, generator: torch.Generator):
        self.method, self.generator = method, generator

    def fitted(self, grid: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Sides of window and patch in this grid."""
        return fitted(grid, self.method.window, self.method.patch)

    def jitter(self, grid: tuple[int, int]) -> tuple[int, int] | None:
        """Two integers, each uniform in 0 ... patch."""
        import torch

        if not self.method.jitter:
            return None
        rows, columns = (int(torch.randint(0, side + 1, (), generator=self.generator)) for side in self.fitted(grid)[1])
        return rows, columns

    def attend(self, call: AttentionCall) -> Tensor:
        grid, q, k = call.grid, call.rotate(call.q), call.rotate(call.k)
        tiles = neighbourhoods(grid, *self.fitted(grid), self.jitter(grid))
        outputs = attend_call(call, q, k, tiles, own=True, budget_mb=self.method.memory_mb)
        image, others = paste(outputs, grid, call.image(call.v))
        return call.join(others, image)


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

    def stages(self, request: ImageRequest) -> list[Stage]:
        geometry = self.geometry
        native = geometry.train_tokens * geometry.token_pixels
        base, *targets = stage_sizes(request.size, native, geometry.token_pixels)
        first = restart_index(self.base_steps, 1 - self.strength)
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

    def own_attended(self, step: Step, text: int, gpu: bool) -> Attended:
        sides = zip(step.grid, *fitted(step.grid, self.window, self.patch), strict=True)
        axes = (neighbourhood_axis(*side, self.jitter, whole=gpu) for side in sides)
        return tiles_attended(*axes, text, ask=True, own=True)

    def recoded(self, request: ImageRequest) -> dict[int, list[Coding]]:
        return enlargements(self.stages(request))

    def own_attention(self, index: int, generation: Generation) -> Attention:
        return Neighbourhood(self, generation.generator)

    def flow(self, index: int, generation: Generation) -> StructureGuidance:
        return StructureGuidance(generation.guide, self.lowpass)
