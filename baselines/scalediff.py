"""ScaleDiff (KSH00906/ScaleDiff): doublings in which every query patch attends to a window of the training size.

Arithmetic first, then the method. H, W are tokens; a patch or window is named by its first token (row, column).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


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


def neighbourhood_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    text: tuple[Tensor, Tensor, Tensor],
    grid: tuple[int, int],
    rotate_text: Callable[[Tensor, tuple[int, int]], Tensor],
    window: tuple[int, int],
    patch: tuple[int, int],
    offset: tuple[int, int] | None = None,
    scale: float | None = None,
    budget_mb: float = 1024.0,
) -> tuple[Tensor, Tensor]:
    """Neighbourhood patch attention: image output [B, heads, HW, d] and text output [B, heads, T, d].

    q, k, v are image tokens [B, heads, HW, d], q and k rotated by their place in the whole image; `text` holds the
    unrotated queries and keys and the values of the text [B, heads, T, d], which `rotate_text(x, place)` turns as an
    image token at `place` is. Each patch of queries with a copy of the text attends to a copy of the text and the
    window around the patch; text is rotated as the first token of that window, so that it keeps its trained offset.
    Text outputs are the mean over patches.

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
    window = tuple(min(w, n) for w, n in zip(window, grid, strict=True))
    patch = tuple(min(p, w) for p, w in zip(patch, window, strict=True))
    shift = offset or (0, 0)
    sides = tuple(n + (p if offset else 0) for n, p in zip(grid, patch, strict=True))
    sides = tuple(n + -n % p for n, p in zip(sides, patch, strict=True))
    (batch, heads, _, dim), texts = q.shape, text[0].shape[2]

    k, v = (x.unflatten(2, grid) for x in (k, v))
    below, right = (s - j - n for s, j, n in zip(sides, shift, grid, strict=True))
    canvas = F.pad(q.unflatten(2, grid), (0, 0, shift[1], right, shift[0], below))
    result = torch.zeros_like(canvas)
    text_sum = text[2].new_zeros(text[2].shape, dtype=torch.float32)

    origins = patch_origins(sides, patch)
    starts = [window_start(origin, shift, grid, window, patch) for origin in origins]
    queries, keys = texts + patch[0] * patch[1], texts + window[0] * window[1]
    each = 2 * (queries + keys) * batch * heads * dim * q.element_size()
    size = max(1, int(budget_mb * 2**20 / each))
    for first in range(0, len(origins), size):
        places = list(zip(origins[first : first + size], starts[first : first + size], strict=True))
        turned = {start: [rotate_text(x, start) for x in text[:2]] for _, start in places}
        batch_q = torch.stack([torch.cat([turned[w][0], _cut(canvas, p, patch)], 2) for p, w in places], 1)
        batch_k = torch.stack([torch.cat([turned[w][1], _cut(k, w, window)], 2) for _, w in places], 1)
        batch_v = torch.stack([torch.cat([text[2], _cut(v, w, window)], 2) for _, w in places], 1)
        out = F.scaled_dot_product_attention(
            *(x.flatten(0, 1) for x in (batch_q, batch_k, batch_v)), scale=scale
        ).unflatten(0, (batch, -1))
        text_sum += out[:, :, :, :texts].float().sum(1)
        for i, ((y, x), _) in enumerate(places):
            result[:, :, y : y + patch[0], x : x + patch[1]] = out[:, i, :, texts:].unflatten(2, patch)
    image = result[:, :, shift[0] : shift[0] + height, shift[1] : shift[1] + width].flatten(2, 3)
    return image, (text_sum / len(origins)).to(text[2].dtype)


def _cut(x: Tensor, start: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Tokens [B, heads, size, d] of a region of [B, heads, H, W, d]."""
    return x[:, :, start[0] : start[0] + size[0], start[1] : start[1] + size[1]].flatten(2, 3)


def refine(prediction: Tensor, reference: Tensor, weight: float, factor: float) -> Tensor:
    """prediction + weight (LP reference - LP prediction), LP the resize low-pass; latents [B, C, P, Q].

    With weight sigma it is the structure guidance of a step; with weight 1 and the roles of the two upsampled latents
    it is the frequency mixing at the start of a doubling.
    """
    from sega.filters import resize_lowpass

    return prediction + weight * (resize_lowpass(reference, factor) - resize_lowpass(prediction, factor))
