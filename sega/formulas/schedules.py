"""Ingredients of the time shift of rectified flow: the unshifted grid u, and mu as a line over image tokens."""

from __future__ import annotations

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
) -> float:
    """Shift mu at a number of image tokens, linear through (base_tokens, base_shift) and (max_tokens, max_shift).

    Stock pipelines extrapolate the line, which at 4096 px leaves FLUX one useful step (mu = 11.55).
    """
    return base_shift + (tokens - base_tokens) * (max_shift - base_shift) / (max_tokens - base_tokens)


def shift_of(tokens: int) -> str:
    """The name of the shift that the scheduler gives an image of this many image tokens, for stages of other sizes."""
    return f"{tokens} tokens"


def tokens_of(name: str) -> int:
    """The image tokens that a name made by `shift_of` stands for."""
    return int(name.removesuffix(" tokens"))
