"""Spectral progressive resolution: when a frequency becomes signal, and how a noisy latent grows (SPD, 2605.18736).

sigma is the noise level of a flow model, x = (1 - sigma) x0 + sigma n; the paper calls it t. Spectra are orthonormal
cosine transforms (DCT-II), in which the noise n has variance 1 everywhere. A frequency f is relative: 1 is the highest
of an axis. Equations are numbered as in the authors' code (howardhx/speed).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def power(frequency: float, top: float, fall: float) -> float:
    """P(f) = top f^-fall, the variance of a clean latent at a frequency in (0, 1]; `top` is that at f = 1.

    The code has A w^-beta with w in periods per image, fitted at 1024 px. Written relative to the highest frequency of
    that size, A 64^-beta f^-beta, it holds at other sizes too for beta near 2: a larger image of a scene has the same
    power at the same relative frequency.
    """
    return float(top * frequency**-fall)


def activation(variance: float, delta: float) -> float:
    """The sigma at which a frequency of this variance becomes signal (eq. 9).

    1/(1 + sqrt(delta/(P (1 + P - delta)))): above it the best prediction of the velocity differs from noise by less
    than `delta`, 0 < delta < 1.
    """
    return 1 / (1 + math.sqrt(delta / (variance * (1 + variance - delta))))


def aligned(sigma: float, ratio: float) -> float:
    """The sigma of a latent after it grew `ratio` times on each axis: r sigma/(1 + (r - 1) sigma) (eq. 6).

    The transform of the larger latent has r times the signal at the old frequencies and no more noise, so `expand`
    divides it by what exceeds the noise level.
    """
    return ratio * sigma / (1 + (ratio - 1) * sigma)


def growth(size: Sequence[int], larger: Sequence[int]) -> float:
    """The geometric mean of the ratios of both axes, by which the orthonormal transform grows with the grid."""
    return math.sqrt(math.prod(larger) / math.prod(size))


def first_below(sigmas: Sequence[float], level: float) -> int:
    """The number of the first of falling sigmas that is no larger than a level; their count without one."""
    return next((index for index, sigma in enumerate(sigmas) if sigma <= level), len(sigmas))


def cosines(x: Tensor) -> Tensor:
    """The orthonormal DCT-II of the last two dimensions, float32."""
    return _matrix(x.shape[-2], x) @ x.float() @ _matrix(x.shape[-1], x).T


def from_cosines(spectrum: Tensor) -> Tensor:
    """The inverse of `cosines`."""
    return _matrix(spectrum.shape[-2], spectrum).T @ spectrum @ _matrix(spectrum.shape[-1], spectrum)


def shrink(noise: Tensor, size: tuple[int, int]) -> Tensor:
    """The low frequencies of noise [..., P, Q] as noise of `size` (rows, columns), white as before."""
    return from_cosines(cosines(noise)[..., : size[0], : size[1]])


def expand(x: Tensor, noise: Tensor, sigma: float) -> tuple[Tensor, float]:
    """A latent x [..., p, q] at `sigma` on the larger grid of `noise` [..., P, Q], and the sigma it has there (eq. 5).

    The spectrum of x fills the low frequencies, sigma times that of the noise the others; all times kappa =
    sigma'/sigma. r is `growth`; the code takes the ratio asked for.
    """
    spectrum = sigma * cosines(noise)
    spectrum[..., : x.shape[-2], : x.shape[-1]] = cosines(x)
    ratio = growth(x.shape[-2:], noise.shape[-2:])
    kappa = ratio / (1 + (ratio - 1) * sigma)
    return from_cosines(kappa * spectrum), aligned(sigma, ratio)


def _matrix(count: int, like: Tensor) -> Tensor:
    """[count, count]: row k is sqrt(2/count) cos(pi (n + 1/2) k/count), the first divided by sqrt(2)."""
    import torch

    n = torch.arange(count, dtype=torch.float64)
    rows = torch.cos(math.pi * (n + 0.5) * n[:, None] / count) * math.sqrt(2 / count)
    rows[0] /= math.sqrt(2)
    return rows.float().to(like.device)
