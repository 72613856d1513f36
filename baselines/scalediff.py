"""ScaleDiff (KSH00906/ScaleDiff): doublings in which every query patch attends to a window of the training size.

Arithmetic first, then the method. H, W are tokens; a patch or window is named by its first token (row, column).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sega.errors import RequestError
from sega.methods.base import Attention
from sega.methods.staged import Staged, fit
from sega.methods.types import Call, Point, Request, Stage

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sega.methods.types import Generation


def patch_origins(grid: tuple[int, int], patch: tuple[int, int]) -> list[tuple[int, int]]:
    """First tokens of the non-overlapping patches that cover a canvas, row-major."""
    return [(y, x) for y in range(0, grid[0], patch[0]) for x in range(0, grid[1], patch[1])]


def window_start(
    origin: tuple[int, int],
    offset: tuple[int, int],
    grid: tuple[int, int],
    window: tuple[int, int],
    patch: tuple[int, int],
) -> tuple[int, int]:
    """First token of the window of a patch: clip(y - offset - (window - patch)/2, 0, H - window), columns alike."""
    return tuple(
        min(max(o - j - (w - p) // 2, 0), n - w)
        for o, j, n, w, p in zip(origin, offset, grid, window, patch, strict=True)
    )


def fitted(
    grid: tuple[int, int], window: tuple[int, int], patch: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Window and patch, no longer on any axis than the grid and the window."""
    window = tuple(min(w, n) for w, n in zip(window, grid, strict=True))
    return window, tuple(min(p, w) for p, w in zip(patch, window, strict=True))


def neighbourhood_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    text: tuple[Tensor, Tensor, Tensor],
    grid: tuple[int, int],
    rotate_text: Callable[[Tensor, tuple[int, int]], Tensor],
    dense: Callable[[Tensor, Tensor, Tensor], Tensor],
    window: tuple[int, int],
    patch: tuple[int, int],
    offset: tuple[int, int] | None = None,
    budget_mb: float = 1024.0,
) -> tuple[Tensor, Tensor]:
    """Neighbourhood patch attention: image output [B, HW, heads, d] and text output [B, T, heads, d].

    q, k, v are image tokens [B, HW, heads, d], q and k rotated by their place in the whole image; `text` holds the
    unrotated queries and keys and the values of the text [B, T, heads, d], which `rotate_text(x, place)` turns as is
    right for a window that starts at `place`. Each patch of queries with a copy of the text attends to a copy of the
    text and the window around the patch, by `dense(q, k, v)`; on FLUX text is rotated as the first token of that
    window, so that it keeps its trained offset. Text outputs are the mean over patches.

    `offset` (jitter) places the queries inside a canvas larger by one patch on each axis, so that patch borders move;
    queries outside the image are zero and their image outputs dropped, but the text mean includes their patches, as
    in the code. Without it the canvas is the grid. Either is extended to whole patches. A side shorter than the
    window gets a window of that side.

    Patches run in batches that keep their copies of queries, keys, values and outputs below `budget_mb`, at least one
    at a time.
    """
    import torch
    import torch.nn.functional as F

    height, width = grid
    window, patch = fitted(grid, window, patch)
    shift = offset or (0, 0)
    sides = tuple(n + (p if offset else 0) for n, p in zip(grid, patch, strict=True))
    sides = tuple(n + -n % p for n, p in zip(sides, patch, strict=True))
    (batch, _, heads, dim), texts = q.shape, text[0].shape[1]

    k, v = (x.unflatten(1, grid) for x in (k, v))
    below, right = (s - j - n for s, j, n in zip(sides, shift, grid, strict=True))
    canvas = F.pad(q.unflatten(1, grid), (0, 0, 0, 0, shift[1], right, shift[0], below))
    result = torch.empty_like(canvas)
    text_sum = torch.zeros_like(text[2], dtype=torch.float32)

    origins = patch_origins(sides, patch)
    starts = [window_start(origin, shift, grid, window, patch) for origin in origins]
    tokens = 2 * texts + patch[0] * patch[1] + window[0] * window[1]
    size = max(1, int(budget_mb * 2**20 / (2 * tokens * batch * heads * dim * q.element_size())))
    for first in range(0, len(origins), size):
        places = list(zip(origins[first : first + size], starts[first : first + size], strict=True))
        turned = {start: [rotate_text(x, start) for x in text[:2]] for _, start in places}
        copies = (
            torch.cat([torch.cat([turned[w][0], _cut(canvas, p, patch)], 1) for p, w in places]),
            torch.cat([torch.cat([turned[w][1], _cut(k, w, window)], 1) for _, w in places]),
            torch.cat([torch.cat([text[2], _cut(v, w, window)], 1) for _, w in places]),
        )
        out = dense(*copies).unflatten(0, (-1, batch))
        text_sum += out[:, :, :texts].float().sum(0)
        for (y, x), part in zip((p for p, _ in places), out[:, :, texts:], strict=True):
            result[:, y : y + patch[0], x : x + patch[1]] = part.unflatten(1, patch)
    image = result[:, shift[0] : shift[0] + height, shift[1] : shift[1] + width].flatten(1, 2)
    return image, (text_sum / len(origins)).to(text[2].dtype)


def _cut(x: Tensor, start: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Tokens [B, size, heads, d] of a region of [B, H, W, heads, d]."""
    return x[:, start[0] : start[0] + size[0], start[1] : start[1] + size[1]].flatten(1, 2)


def refine(prediction: Tensor, reference: Tensor, weight: float, factor: float) -> Tensor:
    """prediction + weight (LP reference - LP prediction), LP the resize low-pass; latents [B, C, P, Q].

    With weight sigma it is the structure guidance of a step; with weight 1 and the roles of the two upsampled latents
    it is the frequency mixing at the start of a doubling.
    """
    from sega.formulas.filters import resize_lowpass

    return prediction + weight * (resize_lowpass(reference, factor) - resize_lowpass(prediction, factor))


def doublings(size: tuple[int, int], native: int) -> int:
    """The number of doublings from a base of about native x native pixels, the nearest on a logarithmic scale."""
    return max(0, math.floor(math.log2(math.sqrt(size[0] * size[1]) / native) + 0.5))


def stage_sizes(size: tuple[int, int], native: int, token: int) -> list[tuple[int, int]]:
    """(width, height) of the base and after each doubling, the last one `size`.

    Each is half the next, as the nearest whole number of tokens: exactly half wherever that is possible. The code
    asks for sides of 32 tokens times a power of two.
    """
    sizes = [tuple(size)]
    for _ in range(doublings(size, native)):
        sizes.insert(0, tuple(fit(side / 2, token) for side in sizes[0]))
    return sizes


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

    def attend(self, call: Call) -> Tensor:
        import torch

        text, (window, _) = call.text, fitted(call.grid, self.method.windows, self.method.patches)

        def rotate_text(x: Tensor, place: tuple[int, int]) -> Tensor:
            return call.rotate(x, ids=call.text_ids(place, window))

        q, k = call.rotate(call.q), call.rotate(call.k)
        image, words = neighbourhood_attention(
            q[:, text:],
            k[:, text:],
            call.v[:, text:],
            (call.q[:, :text], call.k[:, :text], call.v[:, :text]),
            call.grid,
            rotate_text,
            call.dense,
            self.method.windows,
            self.method.patches,
            self.jitter(call.grid),
            self.method.memory_mb,
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

    guidance: float = 3.5
    strength: float = 0.6
    lowpass: float = 0.25
    window: int | None = None
    patch: int | None = None
    jitter: bool = True
    memory_mb: float = 1024.0
    suffix: str = ""

    name: ClassVar[str] = "scalediff"
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = Staged.CHOICES | {"schedule": ("pinned",)}
    NUMBERS: ClassVar[dict[str, tuple[float, float]]] = Staged.NUMBERS | {
        "guidance": (0, math.inf),
        "strength": (0.01, 1),
        "lowpass": (0.001, 1),
        "memory_mb": (0, math.inf),
    }
    COUNTS: ClassVar[tuple[str, ...]] = (*Staged.COUNTS, "window", "patch")
    FLAGS: ClassVar[tuple[str, ...]] = ("jitter",)

    def __post_init__(self) -> None:
        if self.window is None:
            object.__setattr__(self, "window", self.geometry.train_tokens)
        if self.patch is None:
            object.__setattr__(self, "patch", max(1, self.window // 2))
        super().__post_init__()
        if self.patch > self.window:
            raise RequestError(f"{self.name}: patch={self.patch} must not exceed window={self.window}")
        if not isinstance(self.suffix, str):
            raise RequestError(f"{self.name}: suffix={self.suffix} must be text")

    @property
    def windows(self) -> tuple[int, int]:
        return self.window, self.window

    @property
    def patches(self) -> tuple[int, int]:
        return self.patch, self.patch

    def stages(self, request: Request) -> list[Stage]:
        geometry = self.geometry
        native = geometry.train_tokens * geometry.token_pixels
        base, *targets = stage_sizes(request.size, native, geometry.token_pixels)
        first = restart_index(self.base_steps, self.strength)
        return [self.base_stage(base)] + [
            Stage(size, self.base_steps, self.guidance, first=first, positions=self.direct, suffix=self.suffix)
            for size in targets
        ]

    def begin(self, index: int, run: Generation) -> Tensor:
        from sega.formulas.filters import bicubic

        width, height = run.stages[index].size
        noise, latent = run.noise((width, height)), run.latent.float()
        pixels = run.encode(bicubic(run.decode(run.latent), (height, width)), sample=True)
        run.guide = refine(pixels, bicubic(latent, tuple(noise.shape[-2:])), 1.0, self.lowpass)
        entry = run.sigmas(index)[0]
        return (1 - entry) * run.guide + entry * noise

    @property
    def attends_densely(self) -> bool:
        return False

    def attention(self, index: int, run: Generation) -> Attention:
        return Neighbourhood(self, run.generator)

    def flow(self, index: int, run: Generation) -> StructureGuidance:
        return StructureGuidance(run.guide, self.lowpass)
