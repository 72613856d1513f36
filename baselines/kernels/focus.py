"""UltraImage's attention half: the entropy of every head, measured in one pass, and the factor that sharpens it.

Arithmetic first, then the parts. Joint sequences are text first, then image; h is the entropy of a head, lambda the
factor on its logits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sega.methods.base import Attention
from sega.methods.geometry import Geometry
from sega.methods.staged import ProportionalAttention, proportional_factor
from sega.methods.types import AttentionCall

if TYPE_CHECKING:
    from torch import Tensor

    from sega.methods.types import Step

    from ..ultraimage import UltraImage


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
    return torch.stack([row_entropies(*head, size, budget_mb).mean() for head in zip(q, k, strict=True)])


def row_entropies(q: Tensor, k: Tensor, block: int, budget_mb: float) -> Tensor:
    """h_I of each block of rows of one head, float32 [ceil(S / block)]; q and k are [S, d]."""
    import torch

    parts = []
    for rows in attention_rows(q, k, block, budget_mb):
        p = block_attention(rows, block) if block > 1 else rows
        parts.append(-torch.special.xlogy(p, p).sum(-1))
    return torch.cat(parts)


def focus_factor(
    entropy: Tensor,
    low: float,
    high: float,
    h_min: float | Tensor,
    h_max: float | Tensor,
    power: float = 2.0,
    clip: bool = True,
) -> Tensor:
    """lambda = low + (high - low) (1 - (h - h_min)/(h_max - h_min))^power, elementwise.

    `clip` keeps the fraction in [0, 1]; the code does not, so that with power 2 an entropy above h_max raises lambda
    again.
    """
    import torch

    fraction = (entropy - h_min) / torch.as_tensor(h_max - h_min).clamp(min=1e-12)
    return low + (high - low) * (1 - (fraction.clamp(0, 1) if clip else fraction)) ** power


class LayeredProportion(ProportionalAttention):
    """Proportional attention whose first `double` layers have the length of a training side twice as long.

    The newest published code (June 2026) has 128^2 + 512 in the double-stream blocks of FLUX and 64^2 + 512 in the
    single-stream ones.
    """

    def __init__(self, geometry: Geometry, double: int):
        super().__init__(geometry)
        self.double, self.longer = double, (2 * geometry.train_tokens) ** 2 + geometry.text_tokens

    def factor(self, call: AttentionCall) -> float:
        native = self.longer if call.layer < self.double else self.native_tokens
        return proportional_factor(call.q.shape[1], native)


class Focus(Attention):
    """Measures the entropy of every head in one pass before the first step, then sharpens each by its own factor.

    Factors belong to one image and one branch of classifier-free guidance. `target` is the grid of the image where
    that of a call may be padded; thresholds are those of the image. In guided mode the measuring pass attends under
    `proportional`, as the published one does, while entropies are those of the plain logits.
    """

    def __init__(
        self,
        method: UltraImage,
        proportional: ProportionalAttention | None = None,
        target: tuple[int, int] | None = None,
    ):
        self.method, self.target = method, target
        self.proportional = proportional or ProportionalAttention(method.geometry)
        self.entropies: dict[str, list[Tensor]] = {}  # branch -> per layer [B, heads]
        self.factors: dict[str, list[Tensor]] = {}

    def probes(self, step: Step) -> bool:
        if not self.method.beyond(step.grid):
            return False
        if step.index == 0:
            self.entropies[step.branch] = []
            self.factors.pop(step.branch, None)
        return step.index == 0

    def probe_text(self, step: Step) -> str | None:
        return self.method.sentences()[0] if step.branch == "uncond" and self.method.sentences() else None

    def factor(self, call: AttentionCall) -> Tensor | None:
        if not self.method.beyond(call.grid):
            return None
        branch = call.step.branch
        if branch not in self.factors:
            grid = self.target or call.grid
            length = math.prod(grid) + call.text
            self.factors[branch] = self.method.factors(self.entropies[branch], grid, length)
        factor = self.factors[branch][call.layer]
        return factor * self.proportional.factor(call) if self.method.proportional_attention else factor

    def attend(self, call: AttentionCall) -> Tensor:
        if "probe" not in call.step.details:
            return super().attend(call)
        import torch

        q, k = call.rotate(call.q), call.rotate(call.k)
        samples = zip(q.transpose(1, 2), k.transpose(1, 2), strict=True)
        method = self.method
        heads = [head_entropies(*sample, method.block, method.entropy, method.memory_mb) for sample in samples]
        self.entropies[call.step.branch].append(torch.stack(heads))
        if not method.staged:
            return call.dense(q, k, call.v)
        return call.dense(q, k, call.v, scale=self.proportional.factor(call) / math.sqrt(q.shape[-1]))
