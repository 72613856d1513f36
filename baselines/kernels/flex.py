"""FlexAttention: attention over the pairs that a rule keeps, by kernels compiled for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .windows import Rule


@cache
def compiled() -> Callable[..., Any]:
    """FlexAttention, compiled once."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def block_mask(rule: Rule, length: int, device: torch.device) -> Any:
    """The block mask of a rule on pairs of a joint sequence of `length` tokens.

    On a GPU compiled code makes it, so that no mask of all pairs exists on the way.
    """
    import torch
    from torch.nn.attention.flex_attention import create_block_mask

    make = torch.compile(create_block_mask) if device.type == "cuda" else create_block_mask
    return make(lambda batch, head, q, k: rule(q, k), None, None, length, length, device=device)


def attend_flex(q: Tensor, k: Tensor, v: Tensor, mask: Any) -> Tensor:
    """Attention over the pairs of a block mask, [B, S, heads, d]; joint sequences, text first, rotated."""
    out: Tensor = compiled()(*(x.transpose(1, 2) for x in (q, k, v)), block_mask=mask).transpose(1, 2)
    return out
