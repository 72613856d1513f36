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


def reference_magnitude(scale: float, kappa: float, form: str = "power") -> float:
    """SEGA's uniform magnitude, "power": scale^kappa, or "log": 1 + kappa ln scale, which is YaRN's at kappa 0.1."""
    return 1 + kappa * math.log(scale) if form == "log" else scale**kappa


def ramp_ends(dim: int, theta: float, train_tokens: int, fast: float, slow: float) -> tuple[int, int]:
    """The pairs that make `fast` and `slow` turns over the training side, as the ends of a ramp.

    The pair index of r turns is nu(r) = dim ln(N0 / (2 pi r)) / (2 ln theta). The lower end is floored and kept >= 0,
    the upper end is ceiled and kept <= K; the lower end has no upper bound, as in the published code, so for very
    small turn counts the ends swap.
    """

    def pair(turns: float) -> float:
        return dim * math.log(train_tokens / (2 * math.pi * turns)) / (2 * math.log(theta))

    return max(math.floor(pair(fast)), 0), min(math.ceil(pair(slow)), dim // 2)


def ramp(dim: int, theta: float, train_tokens: int, fast: float, slow: float) -> Tensor:
    """Linear ramp over pairs: 0 up to the lower end, 1 from the upper end on; the constant 1 where the ends swap."""
    low, high = ramp_ends(dim, theta, train_tokens, fast, slow)
    width = high - low or 0.001
    return ((torch.arange(dim // 2, dtype=torch.float64) - low) / width).clamp(0, 1)


def yarn_image(
    dim: int,
    theta: float,
    scale: float,
    train_tokens: int,
    turns: float = 1.0,
    powers: tuple[float, float] = (1.0, 1.0),
    near: Tensor | None = None,
) -> Tensor:
    """YaRN as image code has it: slow pairs are interpolated, those next to them follow NTK, fast ones stay.

    Two ramps in sequence with turn counts (1.25, 0.75) and (16, 2). Each count r becomes turns * r^power, with a power
    for each ramp; the methods that follow the time use one of the two. turns = 0 is the limit in which no pair is
    slow: base frequencies. `near` [K] are the frequencies next to the slow pairs; None: NTK's.
    """
    base = base_frequencies(dim, theta)
    if turns <= 0:
        return base
    inner, outer = (
        ramp(dim, theta, train_tokens, turns * fast**power, turns * slow**power)
        for (fast, slow), power in zip(((1.25, 0.75), (16.0, 2.0)), powers, strict=True)
    )
    slow = inner * base / scale + (1 - inner) * (ntk(dim, theta, scale) if near is None else near)
    return outer * slow + (1 - outer) * base


def yarn_llm(dim: int, theta: float, scale: float, train_tokens: int) -> Tensor:
    """YaRN as its paper has it (Peng et al. 2023, eq. 18-20; alpha = 1, beta = 32).

    One ramp, linear in the turns a pair makes over the training side; the language-model code makes it linear in the
    pair index instead.
    """
    base = base_frequencies(dim, theta)
    keep = ((train_tokens * base / (2 * math.pi) - 1) / (32 - 1)).clamp(0, 1)
    return keep * base + (1 - keep) * base / scale


def dype_pi(dim: int, theta: float, scale: float, sigma: float, lambda_s: float = 2.0, lambda_t: float = 2.0) -> Tensor:
    """DyPE on position interpolation: omega / scale^kappa, kappa = lambda_s * sigma^lambda_t (version 2, eq. 14)."""
    kappa = lambda_s * sigma**lambda_t
    return pi(dim, theta, scale**kappa)


def dype_ntk_factor(
    scale: float, dim: int, sigma: float, lambda_s: float = 2.0, lambda_t: float = 2.0, form: str = "exponential"
) -> float:
    """What DyPE-NTK multiplies theta by at time sigma, with kappa = lambda_s * sigma^lambda_t; never below 1.

    "exponential": scale^(dim/(dim-2) * kappa), the code. "multiplicative": (scale * kappa)^(dim/(dim-2)), in the paper
    only (version 2, eq. 19); the bound of 1 is taken from the code of the other form.
    """
    kappa = lambda_s * sigma**lambda_t
    factor: float = ntk_factor(scale, dim) ** kappa if form == "exponential" else ntk_factor(scale * kappa, dim)
    return max(1.0, factor)


def dype_ntk(
    dim: int,
    theta: float,
    scale: float,
    sigma: float,
    lambda_s: float = 2.0,
    lambda_t: float = 2.0,
    form: str = "exponential",
) -> Tensor:
    """DyPE on NTK: the base change fades from the square of NTK's at sigma = 1 to none at sigma = 0."""
    return base_frequencies(dim, theta * dype_ntk_factor(scale, dim, sigma, lambda_s, lambda_t, form))


def dype_yarn(
    dim: int,
    theta: float,
    scale: float,
    train_tokens: int,
    sigma: float,
    lambda_s: float = 1.0,
    lambda_t: float = 2.0,
    rule: str = "product",
    acts_on: str = "thresholds",
) -> Tensor:
    """DyPE on YaRN: all turn counts times kappa = lambda_s * sigma^lambda_t, or to its power.

    "product" with lambda_s = 1 is the code since February 2026 and the paper's second version (eq. 16, 17), "power"
    with lambda_s = 2 the code before. `acts_on` "ntk_term" leaves the turn counts alone and puts kappa in the exponent
    of the NTK part, as `dype_ntk` has it; "both" does both. The paper tries these two in its table 7; the code has
    neither.
    """
    kappa = lambda_s * sigma**lambda_t
    near = None if acts_on == "thresholds" else dype_ntk(dim, theta, scale, sigma, lambda_s, lambda_t)
    if acts_on == "ntk_term":
        return yarn_image(dim, theta, scale, train_tokens, near=near)
    if rule == "product":
        return yarn_image(dim, theta, scale, train_tokens, turns=kappa, near=near)
    return yarn_image(dim, theta, scale, train_tokens, powers=(kappa, kappa), near=near)


def sigmoid_clock(scale: float, sigma: float, centre: float | None = None, rate: float | None = None) -> float:
    """SigMa's clock: sigmoid(rate * (logit(sigma) - logit(centre))), 1 at pure noise and 0 at the clean image.

    `centre` None is 1/scale and `rate` None is sqrt(scale). Time and centre are kept 1e-6 away from 0 and 1, as in the
    code (bxuanz/SigMa, flux/transformer_flux.py).
    """

    def logit(value: float) -> float:
        value = min(max(value, 1e-6), 1 - 1e-6)
        return math.log(value / (1 - value))

    centre = 1 / scale if centre is None else centre
    rate = math.sqrt(scale) if rate is None else rate
    return 0.5 + 0.5 * math.tanh(0.5 * rate * (logit(sigma) - logit(centre)))


def sigma_ntk(dim: int, theta: float, scale: float, clock: float) -> Tensor:
    """SigMa on NTK: the base change to the power of the clock, so NTK at clock 1 and the model's own at 0."""
    return base_frequencies(dim, theta * ntk_factor(scale, dim) ** clock)


def sigma_yarn(dim: int, theta: float, scale: float, train_tokens: int, clock: float, rule: str = "code") -> Tensor:
    """SigMa on YaRN: the turn counts follow the clock.

    "code": the inner counts to the power clock * max(1, log2 scale), the outer ones to the power clock. Pairs that
    make less than one turn over the training side then stay interpolated to the end. "paper": all counts times the
    clock (its eq. 21, known to us at second hand), after which all pairs return to the model's own frequencies.
    """
    if rule == "paper":
        return yarn_image(dim, theta, scale, train_tokens, turns=clock)
    return yarn_image(dim, theta, scale, train_tokens, powers=(clock * max(1.0, math.log2(scale)), clock))


def tasr(dim: int, theta: float, scale: float, time: float, watershed: float) -> Tensor:
    """Time-aware scaled rotary positions of Lumina-Next: omega / scale before the watershed, base theta * scale after.

    `time` is Lumina's own: 0 noise, 1 image; at the watershed itself the second rule holds. The base is multiplied by
    scale, not by NTK's scale^(dim/(dim-2)). Source: Alpha-VLLM/Lumina-T2X, NextDiT.precompute_freqs_cis.
    """
    return pi(dim, theta, scale) if time < watershed else base_frequencies(dim, theta * scale)


def vision_yarn(
    dim: int,
    theta: float,
    scale: float,
    longer: float,
    train_tokens: int,
    sigma: float,
    lambda_s: float = 2.0,
    lambda_t: float = 2.0,
) -> Tensor:
    """YaRN whose slow pairs follow the axis and whose NTK part follows the grid: `longer` is the larger ratio of both.

    `scale` of the axis itself may be 1, and the NTK part is changed all the same. All turn counts are raised to the
    power lambda_s * sigma^lambda_t. Source: wildminder/ComfyUI-DyPE, src/base.py.
    """
    kappa = lambda_s * sigma**lambda_t
    return yarn_image(dim, theta, scale, train_tokens, powers=(kappa, kappa), near=ntk(dim, theta, longer))


def vision_yarn_magnitude(longer: float, sigma: float, start_sigma: float = 1.0, lambda_t: float = 2.0) -> float:
    """1 + 0.1 ln longer * min(sigma / start_sigma, 1)^lambda_t: YaRN's magnitude, fading (same source)."""
    factor: float = 1 + (attention_magnitude(longer) - 1) * min(sigma / start_sigma, 1.0) ** lambda_t
    return factor


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
