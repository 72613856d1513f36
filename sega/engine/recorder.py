"""What of a transformer call is kept for figures, in small arrays: spectra of the latent, the attention of one token.

Nothing here changes a value of the call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sega.methods.types import Call


def latent_spectrum(latent: Tensor) -> Tensor:
    """Power of a latent [B, C, h, w] by radial frequency, float32 [max(h, w) // 2 + 1] on the CPU.

    |FFT|^2 / (h w), so that white noise of variance 1 gives 1 in every ring; mean over samples, channels and the lines
    of a ring. Ring k holds the lines nearest to k cycles over the longer side; corners beyond the last ring are left
    out.
    """
    height, width = latent.shape[-2:]
    side = max(height, width)
    power = torch.fft.fft2(latent.detach().float().cpu()).abs().square().mean(dim=(0, 1)) / (height * width)
    fy, fx = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.fftfreq(width, dtype=torch.float64)
    ring = (torch.hypot(fy[:, None], fx[None]) * side + 0.5).floor().long()
    inside = ring <= side // 2
    count = torch.bincount(ring[inside], minlength=side // 2 + 1)
    return torch.zeros(side // 2 + 1).index_add_(0, ring[inside], power[inside]) / count.clamp(min=1)


class Watch:
    """The attention of one picture token in the layers of one call, where a layer attends densely."""

    def __init__(self, query: tuple[float, float]):
        """`query` is a place (x, y) as fractions of the picture."""
        self.query = query
        self.clear()

    def clear(self) -> None:
        """Forget the last call."""
        self.total: Tensor | None = None  # [H, W], sum over layers
        self.distance: list[float] = []
        self.text: list[float] = []

    def token(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Row and column of the query."""
        return tuple(min(int(f * side), side - 1) for f, side in zip(reversed(self.query), grid, strict=True))

    def see(self, call: Call, q: Tensor, k: Tensor, scale: float | None) -> None:
        """Add one layer from its rotated q and k [B, S, heads, d]; ignored where they are not the joint sequence."""
        if q.shape != call.q.shape or k.shape[1] != q.shape[1]:
            return
        height, width = call.grid
        row, column = self.token(call.grid)
        place, scale = call.text + row * width + column, q.shape[-1] ** -0.5 if scale is None else scale
        weights = torch.zeros(k.shape[1], device=k.device)
        for sample in range(len(q)):
            for head in range(q.shape[2]):  # one head at a time, so that large pictures need no copy of k
                logits = k[sample, :, head].float() @ (q[sample, place, head].float() * scale)
                weights += logits.softmax(0)
        weights = (weights / (len(q) * q.shape[2])).cpu()
        picture = weights[call.text : call.text + height * width].reshape(height, width)
        rows, columns = torch.arange(height)[:, None] - row, torch.arange(width)[None] - column
        away = torch.hypot(rows.float(), columns.float())
        self.distance.append(float((picture * away).sum() / picture.sum()))
        self.text.append(float(weights[: call.text].sum()))
        self.total = picture if self.total is None else self.total + picture

    def found(self) -> dict[str, Any]:
        """`attention` [H, W], mean over heads and layers; for each layer the mean distance in tokens of what the query
        attends to in the picture, and the share that goes to the text. Nothing where no layer attends densely."""
        if self.total is None:
            return {}
        return {
            "query": self.token(tuple(self.total.shape)),
            "attention": self.total / len(self.distance),
            "attention_distance": self.distance,
            "attention_text": self.text,
        }
