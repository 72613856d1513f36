"""What is to be computed, in the kinds that machines do at rates of their own. No torch."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Work:
    """Of one kernel or of a whole image: operations, bytes and launches. Adds up, and multiplies by a number."""

    products: float = 0.0  # operations of dense layers; a multiplication and an addition each
    attention: float = 0.0  # operations of fused attention: both products, not the softmax
    flex: float = 0.0  # operations of FlexAttention, of all tiles that its kernels compute
    convolutions: float = 0.0  # operations
    single: float = 0.0  # operations of products that are made in float32, whatever the dtype of the model
    masked: float = 0.0  # pairs of attention under a mask, for each head
    traffic: float = 0.0  # bytes that kernels read and write, each tensor once
    kernels: float = 0.0  # launches

    @property
    def operations(self) -> float:
        """All of them."""
        return self.products + self.attention + self.flex + self.convolutions + self.single

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))

    def __sub__(self, other: Work) -> Work:
        return self + -1 * other

    def __mul__(self, times: float) -> Work:
        return Work(*(times * getattr(self, item.name) for item in fields(self)))

    __rmul__ = __mul__


@dataclass(frozen=True)
class Attended:
    """What one attention layer does in one transformer call, for a sample.

    A vector is the part of q, k, v or the output that belongs to one token, over all heads.
    """

    pairs: float  # of queries and keys that are multiplied, masked ones too
    vectors: float  # read and written in the dtype of the model, those of the attention kernel itself included
    singles: float = 0.0  # vectors read and written in float32
    flex: float = 0.0  # pairs that are multiplied by FlexAttention, besides `pairs`
    maps: float = 0.0  # pairs for which the attention map itself is made, in float32
    masked: float = 0.0  # pairs, of `pairs`, that are under a mask
    kernels: float = 0.0  # launched besides the one of dense attention

    def __add__(self, other: Attended) -> Attended:
        return Attended(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))

    def __mul__(self, times: float) -> Attended:
        return Attended(*(times * getattr(self, item.name) for item in fields(self)))

    __rmul__ = __mul__


ROTATED = Attended(0, vectors=6, singles=10)
"""One token rotated once more than the model itself does it, by the stock function of FLUX in 16 bits."""
TURN = 60
"""Kernels of a rotation by positions of its own, most of them for its table."""
MAP_PASSES = 4
"""How often an entry of an attention map goes through memory: made, read and made by the softmax, read once more."""


def dense(queries: float, keys: float | None = None) -> Attended:
    """Attention of so many queries to so many keys, by default as many."""
    keys = queries if keys is None else keys
    return Attended(queries * keys, vectors=2 * queries + 2 * keys)


def rotated(tokens: float) -> Attended:
    """So many tokens rotated once more than the model itself does it, by positions of their own."""
    return tokens * ROTATED + Attended(0, 0, kernels=TURN)
