"""Rotary frequencies of one axis, as pure functions.

Notation: an axis has `dim` rotary dimensions, so K = dim / 2 pairs, numbered i = 0 ... K-1; theta is the base;
scale = tokens on the axis / tokens of the training side, always > 1 here. Everything is float64 [K], in radians per
token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def base_frequencies(dim: int, theta: float) -> Tensor:
    """theta^(-2i/dim) (Su et al. 2021, RoFormer, eq. 15).

    Written as diffusers' get_1d_rotary_pos_embed writes it, so that it equals the stock values to the last bit.
    """
    return 1.0 / (theta ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim))


def ntk_factor(scale: float, dim: int) -> float:
    """scale^(dim/(dim-2)), what NTK multiplies theta by: the slowest pair then turns exactly `scale` times slower."""
    factor: float = scale ** (dim / (dim - 2))
    return factor


def pi(dim: int, theta: float, scale: float) -> Tensor:
    """Position interpolation: every frequency divided by scale (Chen et al. 2023)."""
    return base_frequencies(dim, theta) / scale


def ntk(dim: int, theta: float, scale: float) -> Tensor:
    """NTK-aware base change: (theta * scale^(dim/(dim-2)))^(-2i/dim)."""
    return base_frequencies(dim, theta * ntk_factor(scale, dim))


def attention_magnitude(scale: float) -> float:
    """1 + 0.1 ln scale, YaRN's factor on cos and sin (Peng et al. 2023, eq. 22, as a root of the temperature)."""
    return 1.0 + 0.1 * math.log(scale)


def ramp(dim: int, theta: float, train_tokens: int, fast: float, slow: float) -> Tensor:
    """Linear ramp over pairs: 0 below the pair that makes `fast` turns over the training side, 1 above `slow` turns.

    The pair index of r turns is nu(r) = dim ln(N0 / (2 pi r)) / (2 ln theta). The lower end is floored and kept >= 0,
    the upper end is ceiled and kept <= K; the lower end has no upper bound, as in the published code, so for very
    small turn counts the ends swap and the ramp is the constant 1.
    """

    def pair(turns: float) -> float:
        return dim * math.log(train_tokens / (2 * math.pi * turns)) / (2 * math.log(theta))

    low: float = max(math.floor(pair(fast)), 0)
    high: float = min(math.ceil(pair(slow)), dim // 2)
    if low == high:
        high += 0.001
    return ((torch.arange(dim // 2, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)


def yarn_image(
    dim: int, theta: float, scale: float, train_tokens: int, turns: float = 1.0, power: float = 1.0
) -> Tensor:
    """YaRN as image code has it: slow pairs are interpolated, those next to them follow NTK, fast ones stay.

    Two ramps in sequence with turn counts (1.25, 0.75) and (16, 2). Each count r becomes turns * r^power; DyPE uses
    one of the two. turns = 0 is the limit in which no pair is slow: base frequencies.
    """
    base = base_frequencies(dim, theta)
    if turns <= 0:
        return base
    inner, outer = (
        ramp(dim, theta, train_tokens, turns * fast**power, turns * slow**power)
        for fast, slow in ((1.25, 0.75), (16.0, 2.0))
    )
    slow = inner * base / scale + (1 - inner) * ntk(dim, theta, scale)
    return outer * slow + (1 - outer) * base


def yarn_llm(dim: int, theta: float, scale: float, train_tokens: int) -> Tensor:
    """YaRN as its paper has it (Peng et al. 2023, eq. 18-20; alpha = 1, beta = 32).

    One ramp, linear in the turns a pair makes over the training side; the language-model code makes it linear in the
    pair index instead.
    """
    base = base_frequencies(dim, theta)
    keep = ((train_tokens * base / (2 * math.pi) - 1) / (32 - 1)).clamp(0, 1)
    return keep * base + (1 - keep) * base / scale


def dype_ntk_factor(scale: float, dim: int, sigma: float, lambda_s: float = 2.0, lambda_t: float = 2.0) -> float:
    """max(1, scale^(dim/(dim-2) * lambda_s * sigma^lambda_t)), what DyPE-NTK multiplies theta by at time sigma."""
    factor: float = ntk_factor(scale, dim) ** (lambda_s * sigma**lambda_t)
    return max(1.0, factor)


def dype_ntk(
    dim: int, theta: float, scale: float, sigma: float, lambda_s: float = 2.0, lambda_t: float = 2.0
) -> Tensor:
    """DyPE on NTK: the base change fades from the square of NTK's at sigma = 1 to none at sigma = 0."""
    return base_frequencies(dim, theta * dype_ntk_factor(scale, dim, sigma, lambda_s, lambda_t))


def dype_yarn(
    dim: int,
    theta: float,
    scale: float,
    train_tokens: int,
    sigma: float,
    lambda_s: float = 1.0,
    lambda_t: float = 2.0,
    rule: str = "product",
) -> Tensor:
    """DyPE on YaRN: all turn counts times lambda_s * sigma^lambda_t, or to its power.

    "product" with lambda_s = 1 is the code since February 2026 and the paper's second version (eq. 16, 17), "power"
    with lambda_s = 2 the code before.
    """
    strength = lambda_s * sigma**lambda_t
    shape = {"turns": strength} if rule == "product" else {"power": strength}
    return yarn_image(dim, theta, scale, train_tokens, **shape)


def sega_ntk_factor(scale: float, dim: int, form: str = "code") -> float:
    """What SEGA multiplies theta by at a ratio `scale` of an axis; 1 where scale <= 1.

    "code": scale^(2 dim/(dim-2)) / (1 + 0.1 ln scale), about the square of NTK's factor. "plain": NTK's factor, as
    the paper's text suggests.
    """
    if scale <= 1:
        return 1.0
    if form == "plain":
        return ntk_factor(scale, dim)
    return ntk_factor(scale, dim) ** 2 / attention_magnitude(scale)
