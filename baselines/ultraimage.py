"""UltraImage (thu-ml/DiT-Extrapolation): one stretched pair against repetition, sharper heads against blur.

Arithmetic first, then the method. Joint sequences are text first, then image; h is the entropy of a head, lambda the
factor on its logits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sega.geometry import Geometry

if TYPE_CHECKING:
    from torch import Tensor

PAPER_PAIRS = {"flux": (9,), "qwen": (8, 9)}
PAPER_SIDES = {"flux": 64, "qwen": 83}


def dominant_pairs(geometry: Geometry) -> tuple[int, ...]:
    """0-based indices of the pairs whose period matches the training side, the same on both axes.

    The published sets for the published models: {9} on FLUX (whose own training side is then 2048 px) and {8, 9} on
    Qwen-Image, where the second was found by looking at what still repeated. Any other geometry gets
    k* = argmin_i |T_i - N| with T_i = 2 pi theta^(2i/D) and N its training side in tokens.
    """
    family, dim = geometry.family, geometry.axes[1]
    if (dim, geometry.theta, geometry.train_tokens) == (56, 10000, PAPER_SIDES[family]):
        return PAPER_PAIRS[family]
    distance = [abs(2 * math.pi * geometry.theta ** (2 * i / dim) - geometry.train_tokens) for i in range(dim // 2)]
    return (distance.index(min(distance)),)


def stretched(base: Tensor, pairs: tuple[int, ...], period: float) -> Tensor:
    """Frequencies [K] with `pairs` turning once in `period` tokens: 2 pi / period (paper: period = tokens of the
    axis; FLUX code: that over 0.85)."""
    frequencies = base.clone()
    frequencies[list(pairs)] = 2 * math.pi / period
    return frequencies


def interpolated(base: Tensor, pairs: tuple[int, ...], factor: float) -> Tensor:
    """Frequencies [K] with `pairs` divided by `factor` (Qwen-Image code: tokens of the axis * 16 / 1328)."""
    frequencies = base.clone()
    frequencies[list(pairs)] /= factor
    return frequencies


def attention_rows(q: Tensor, k: Tensor, block: int, budget_mb: float, scale: float | None = None) -> Iterator[Tensor]:
    """softmax(q k^T scale) of one head in row chunks, float32 [rows, S'], from the first row to the last.

    q and k are [S, d]. Rows and columns are padded with zero queries and keys to S', a multiple of `block`, as in the
    published kernel; `scale` is 1/sqrt(d) by default. A chunk holds whole blocks, as many as keep the logits and one
    copy of them below `budget_mb`, at least one; the S x S map never exists.
    """
    import torch.nn.functional as F

    length, dim = q.shape
    padding = -length % block
    k = F.pad(k.float(), (0, 0, 0, padding))
    step = block * max(1, int(budget_mb * 2**20 / (2 * 4 * block * len(k))))
    scale = dim**-0.5 if scale is None else scale
    for start in range(0, len(k), step):
        rows = q[start : start + step].float()
        rows = F.pad(rows, (0, 0, 0, min(step, len(k) - start) - len(rows)))
        yield (rows * scale @ k.T).softmax(dim=-1)


def block_attention(rows: Tensor, block: int) -> Tensor:
    """p_IJ = (1/block) sum_{i in I, j in J} P_ij of attention rows [r block, c block]; [r, c], rows sum to 1."""
    return rows.unflatten(1, (-1, block)).sum(-1).unflatten(0, (-1, block)).mean(1)


def head_entropies(q: Tensor, k: Tensor, block: int, kind: str = "block", budget_mb: float = 256.0) -> Tensor:
    """Entropy of each head, float32 [heads], from rotated queries and keys [heads, S, d] of the joint sequence.

    "block" (the code): h_I = -sum_J p_IJ ln p_IJ over blocks of `block` tokens, mean over I. "token" (the paper): the
    same with single tokens, unpadded.
    """
    import torch

    size = block if kind == "block" else 1
    return torch.stack([_entropies(*head, size, budget_mb).mean() for head in zip(q, k, strict=True)])


def block_entropies(q: Tensor, k: Tensor, block: int, budget_mb: float = 256.0) -> Tensor:
    """h_I of each block of rows, float32 [heads, ceil(S / block)]; arguments as in `head_entropies`."""
    import torch

    return torch.stack([_entropies(*head, block, budget_mb) for head in zip(q, k, strict=True)])


def _entropies(q: Tensor, k: Tensor, block: int, budget_mb: float) -> Tensor:
    import torch

    parts = []
    for rows in attention_rows(q, k, block, budget_mb):
        p = block_attention(rows, block) if block > 1 else rows
        parts.append(-torch.special.xlogy(p, p).sum(-1))
    return torch.cat(parts)


def focus_factor(
    entropy: Tensor, low: float, high: float, h_min: float, h_max: float, power: float = 2.0, clip: bool = True
) -> Tensor:
    """lambda = low + (high - low) (1 - (h - h_min)/(h_max - h_min))^power, elementwise.

    `clip` keeps the fraction in [0, 1]; the code does not, so that with power 2 an entropy above h_max raises lambda
    again.
    """
    fraction = (entropy - h_min) / max(h_max - h_min, 1e-12)
    return low + (high - low) * (1 - (fraction.clamp(0, 1) if clip else fraction)) ** power
