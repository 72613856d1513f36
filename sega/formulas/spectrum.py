"""Spectra of a latent on its token grid, and the magnitudes SEGA derives from them. Pure functions, float32.

Legend: H, W grid; C channels; n bins; K pairs. The source is SEGA's published code; where its paper or its rounding
differ, the docstring says so. Everything stays on the device of the latent, and nothing waits for that device. Only
the tables of bins are made on the CPU, because their rounding differs between devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

FLOOR = 1e-8  # least energy of a bin


def channel_mean(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """[H*W, C] or [B, H*W, C] tokens of any dtype -> [H, W] float32 of zero mean, on the device of the tokens.

    The mean is over channels, and over the batch where there is one. Tokens beyond H*W (reference images of editing
    models) are left out.
    """
    height, width = grid
    u = tokens[..., : height * width, :].mean(dim=-1, dtype=torch.float32)
    if u.dim() == 2:
        u = u.mean(dim=0)
    u = u.to(torch.float64)
    return (u - u.mean()).to(torch.float32).reshape(height, width)


def axis_profile(u: Tensor, axis: int, binning: str = "reference") -> Tensor:
    """Energy of u [H, W] by frequency along `axis` (0 height, 1 width): [n], n = max(length // 2, 8).

    |FFT along the axis|^2, averaged over the other axis, lines k = 0 ... length // 2, mean per bin. By Parseval this
    is the marginal of the 2-D power spectrum of the paper, up to a constant.

    `binning="reference"` puts line k into bin floor(k / half * n) evaluated in float32, as the published code does;
    where half is no power of two some products fall just short and leave bins empty (energy 0). `"exact"` puts line k
    into bin k and the Nyquist line into the last. An axis below 16 tokens has fewer lines than 8 bins: it is always
    exact, with n = length // 2.
    """
    length = u.shape[axis]
    power = torch.fft.rfft(u, dim=axis).abs().square().mean(dim=1 - axis)
    return _axis_bins(length, "exact" if length < 16 else binning, u.device).mean(power)


def radial_profile(u: Tensor) -> Tensor:
    """Energy of u [H, W] by radius: [max(H, W) // 2].

    Radii are in index units around (H / 2, W / 2), not normalised per axis, divided by their maximum. For odd sides
    that centre is half a cell off the zero frequency, as in the published code.
    """
    power = torch.fft.fftshift(torch.fft.fft2(u)).abs().square()
    return _radial_bins(u.shape[0], u.shape[1], u.device).mean(power.flatten())


def flatness(profile: Tensor) -> Tensor:
    """Spectral flatness of a profile [n], a scalar: geometric over arithmetic mean, in [0, 1]; 1 is white."""
    energy = profile.clamp(min=FLOOR)
    return (energy.log().mean().exp() / (energy.mean() + 1e-8)).clamp(0, 1)


def strength(u: Tensor, profile: Tensor, gamma: float = 1.5) -> Tensor:
    """1 - flatness^gamma of the radial profile of u, a float64 scalar in [0, 1]. A constant latent has none: 0."""
    value = 1 - flatness(profile).to(torch.float64) ** gamma
    return torch.where(u.to(torch.float64).square().sum() < 1e-12, 0.0, value)


def band_positions(pairs: int, bins: int, cycles: Tensor | None = None) -> Tensor:
    """Where in a profile of n bins each of K pairs looks: fractional bin indices, float64 [K].

    By rank (default, the code): log-periods mapped linearly, so pair 0 meets the last bin and pair K-1 bin 0:
    (n - 1)(1 - i / (K - 1)), whatever the base. With `cycles` [K], the cycles a pair makes over the axis
    (tokens / period), its physical frequency, which is the literal reading of the paper; bin k holds k cycles.
    """
    if cycles is None:
        return (bins - 1) * (1 - torch.arange(pairs, dtype=torch.float64) / (pairs - 1))
    return cycles.to(torch.float64).clamp(0, bins - 1)


def pair_magnitudes(
    profile: Tensor,
    positions: Tensor,
    m_ref: float,
    strength: Tensor | float,
    amplitude: float = 0.15,
    gain: float = 1.5,
    floor: float | None = 1.0,
) -> Tensor:
    """Magnitude per pair, float64 [K]: max(m_ref (1 - amplitude * strength * q), floor).

    q is the standardised log-energy at the pair's place in the profile, passed through tanh(gain * z) and centred:
    pairs in energetic bands get less than m_ref, those in empty ones more. The defaults are the code's; the paper has
    amplitude 1, gain 1 and no floor, which lets magnitudes fall below 0 on a coloured spectrum.
    """
    energy = profile.to(torch.float64).clamp(min=FLOOR).log()
    positions = positions.to(profile.device, non_blocking=True)
    low = positions.floor().long().clamp(0, len(energy) - 1)
    high = (low + 1).clamp(max=len(energy) - 1)
    e = energy[low] + (positions - low) * (energy[high] - energy[low])
    z = (e - e.mean()) / e.std().clamp(min=1e-8)
    q = torch.tanh(gain * z)
    m = m_ref * (1 - amplitude * strength * (q - q.mean()))
    return m if floor is None else m.clamp(min=floor)


@dataclass(frozen=True)
class Bins:
    """Which of M values fall into each of n bins."""

    index: Tensor  # int64 [M], the bin of each value
    members: Tensor  # int64 [n, most], the values of each bin; M stands for none
    counts: Tensor  # float32 [n], at least 1, so that empty bins hold 0

    @classmethod
    def of(cls, index: Tensor, bins: int, device: torch.device) -> Bins:
        """From the bin of each value [M]."""
        counts = torch.bincount(index, minlength=bins)
        order = index.argsort(stable=True)
        rank = torch.arange(len(index)) - (counts.cumsum(0) - counts)[index[order]]
        members = torch.full((bins, int(counts.max())), len(index))
        members[index[order], rank] = order
        return cls(index.to(device), members.to(device), counts.clamp(min=1).to(device, torch.float32))

    def mean(self, values: Tensor) -> Tensor:
        """Mean of each bin, float32 [n], of values [M]; the same in every run.

        A GPU adds by `members`, since its `index_add_` has no fixed order.
        """
        if values.device.type == "cpu":
            return values.new_zeros(len(self.counts)).index_add_(0, self.index, values) / self.counts
        return self.listed(values) / self.counts

    def listed(self, values: Tensor) -> Tensor:
        """Sum of each bin by the list of its members, float32 [n]."""
        return torch.cat([values, values.new_zeros(1)])[self.members].sum(dim=1)


@lru_cache(maxsize=64)
def _axis_bins(length: int, binning: str, device: torch.device) -> Bins:
    """The bins of the lines k = 0 ... length // 2."""
    half = length // 2
    if binning == "exact":
        bins = max(half, 1)
        index = torch.arange(half + 1).clamp(max=bins - 1)
    else:
        bins = max(half, 8)
        index = (torch.linspace(0, 1, half + 1, dtype=torch.float32) * bins).floor().long().clamp(max=bins - 1)
    return Bins.of(index, bins, device)


@lru_cache(maxsize=16)
def _radial_bins(height: int, width: int, device: torch.device) -> Bins:
    y = torch.arange(height, dtype=torch.float32)[:, None] - height / 2
    x = torch.arange(width, dtype=torch.float32)[None, :] - width / 2
    radius = (y.square() + x.square()).sqrt()
    bins = max(max(height, width) // 2, 1)
    index = (radius / (radius.max() + 1e-8) * bins).floor().long().clamp(max=bins - 1).flatten()
    return Bins.of(index, bins, device)
