"""The time shifts of the published codes, written out. What runs goes through the stock schedulers."""

import math

import numpy as np


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
