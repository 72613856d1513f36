"""Time shifts of rectified flow as pure functions over NumPy arrays. u is the unshifted grid, sigma the shifted one."""

from __future__ import annotations

import math

import numpy as np


def linear_grid(steps: int) -> np.ndarray:
    """u_k = linspace(1, 1/steps, steps), float64."""
    return np.linspace(1.0, 1.0 / steps, steps)


def mu_for_tokens(
    tokens: int,
    base_shift: float,
    max_shift: float,
    base_tokens: int,
    max_tokens: int,
    pinned: bool = False,
) -> float:
    """Shift mu at a number of image tokens, linear through (base_tokens, base_shift) and (max_tokens, max_shift).

    Stock pipelines extrapolate the line, which at 4096 px leaves FLUX one useful step (mu = 11.55). `pinned` puts
    the upper point at the current length, so that mu = max_shift at every size, also below the training size.
    """
    if pinned:
        return float(max_shift)
    return base_shift + (tokens - base_tokens) * (max_shift - base_shift) / (max_tokens - base_tokens)


def shift_of(tokens: int) -> str:
    """The name of the shift that the scheduler gives a picture of this many image tokens, for stages of other sizes."""
    return f"{tokens} tokens"


def tokens_of(name: str) -> int:
    """The image tokens that a name made by `shift_of` stands for."""
    return int(name.removesuffix(" tokens"))


def shift_exponential(u: np.ndarray, mu: float) -> np.ndarray:
    """e^mu u / (1 + (e^mu - 1) u)."""
    return shift_static(u, math.exp(mu))


def shift_static(u: np.ndarray, shift: float) -> np.ndarray:
    """shift u / (1 + (shift - 1) u); I-Max and UltraImage on FLUX use 3 and 6."""
    u = np.asarray(u, dtype=np.float64)
    return shift * u / (1 + (shift - 1) * u)


def stretch_terminal(sigmas: np.ndarray, terminal: float = 0.02) -> np.ndarray:
    """The list stretched about 1 so that its last value is `terminal` (Qwen-Image)."""
    sigmas = np.asarray(sigmas, dtype=np.float64)
    return 1 - (1 - sigmas) * (1 - terminal) / (1 - sigmas[-1])


def close(sigmas: np.ndarray) -> np.ndarray:
    """The list with the final 0 appended."""
    return np.append(sigmas, 0.0)
