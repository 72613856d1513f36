"""Attention of every patch of queries to a window around it (ScaleDiff).

H, W are tokens; a patch or window is named by its first token (row, column).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


def fitted(
    grid: tuple[int, int], window: tuple[int, int], patch: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Window and patch, no longer on any axis than the grid and the window."""
    window = tuple(min(w, n) for w, n in zip(window, grid, strict=True))
    return window, tuple(min(p, w) for p, w in zip(patch, window, strict=True))


@dataclass(frozen=True)
class Layout:
    """How queries are cut into patches and keys into windows; sides in tokens (rows, columns)."""

    window: tuple[int, int]
    patch: tuple[int, int]
    offset: tuple[int, int] | None = None  # jitter: how far the patch borders move
    budget_mb: float = 1024.0  # of the copies of queries, keys, values and outputs at a time; at least one patch runs


def neighbourhood_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    text: tuple[Tensor, Tensor, Tensor],
    grid: tuple[int, int],
    rotate_text: Callable[[Tensor, tuple[int, int]], Tensor],
    dense: Callable[[Tensor, Tensor, Tensor], Tensor],
    layout: Layout,
) -> tuple[Tensor, Tensor]:
    """Neighbourhood patch attention: image output [B, HW, heads, d] and text output [B, T, heads, d].

    q, k, v are image tokens [B, HW, heads, d], q and k rotated by their place in the whole image; `text` holds the
    unrotated queries and keys and the values of the text [B, T, heads, d], which `rotate_text(x, place)` turns as is
    right for a window that starts at `place`. Each patch of queries with a copy of the text attends to a copy of the
    text and the window around the patch, by `dense(q, k, v)`; on FLUX text is rotated as the first token of that
    window, so that it keeps its trained offset. Text outputs are the mean over patches.

    An offset of the layout places the queries inside a canvas larger by one patch on each axis, so that patch borders
    move; queries outside the image are zero and their image outputs dropped, but the text mean includes their patches,
    as in the code. Without it the canvas is the grid. Either is extended to whole patches. A side shorter than the
    window gets a window of that side.
    """
    import torch
    import torch.nn.functional as F

    height, width = grid
    window, patch = fitted(grid, layout.window, layout.patch)
    shift = layout.offset or (0, 0)
    sides = tuple(n + (p if layout.offset else 0) for n, p in zip(grid, patch, strict=True))
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
    size = max(1, int(layout.budget_mb * 2**20 / (2 * tokens * batch * heads * dim * q.element_size())))
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
