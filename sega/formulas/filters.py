"""Low-pass filters, resizing and sharpening of the staged methods, as pure functions.

x is [..., P, Q] (latents [B, C, P, Q] or images [B, 3, P, Q] where four dimensions are asked for), floating point;
the result has its size and dtype, half precision being filtered in float32. P are rows, Q columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLUR_RANGE = (0.1, 2.0)  # standard deviations torchvision's GaussianBlur draws from


def butterworth_mask(size: tuple[int, int], ratio: float, order: int = 4, device: torch.device | None = None) -> Tensor:
    """G(p, q) = 1/(1 + (d^2/ratio^2)^order) on the centred spectrum, float32 [P, Q].

    d^2 = (2p/P - 1)^2 + (2q/Q - 1)^2 for rows p = 0 ... P-1 and columns q, so `ratio` is the radius of the half-power
    ring with 1 at the highest frequency of an axis. ratio = 0 keeps nothing.
    """
    rows, columns = size
    y = 2 * torch.arange(rows, dtype=torch.float64, device=device) / rows - 1
    x = 2 * torch.arange(columns, dtype=torch.float64, device=device) / columns - 1
    if ratio <= 0:
        return torch.zeros(rows, columns, device=device)
    distance = (y[:, None] ** 2 + x[None, :] ** 2) / ratio**2
    return (1 / (1 + distance**order)).float()


def butterworth_lowpass(x: Tensor, ratio: float, order: int = 4) -> Tensor:
    """Re IFFT(shift^-1(G * shift(FFT(x)))) over the last two dimensions (HiFlow).

    For an odd side the zero frequency lies half a bin off the centre of G, as in the published code.
    """
    mask = butterworth_mask((x.shape[-2], x.shape[-1]), ratio, order, x.device)
    spectrum = torch.fft.fftshift(torch.fft.fft2(_full(x)), dim=(-2, -1))
    low: Tensor = torch.fft.ifft2(torch.fft.ifftshift(spectrum * mask, dim=(-2, -1))).real
    return low.to(x.dtype)


def haar_lowpass(x: Tensor, level: int = 1) -> Tensor:
    """Two-dimensional Haar analysis, details set to zero, synthesis: the mean of each block of 2^level x 2^level.

    A side that is no multiple of 2^level is continued by its last row or column and cut again, so that the low-pass
    of a constant stays that constant; the published codes have no answer there.
    """
    if level < 0:
        raise ValueError(f"level={level} must be at least 0")
    block = 2**level
    rows, columns = x.shape[-2:]
    flat = _full(x).reshape(1, -1, rows, columns)
    flat = F.pad(flat, (0, -columns % block, 0, -rows % block), mode="replicate")
    means = F.avg_pool2d(flat, block).repeat_interleave(block, dim=-2).repeat_interleave(block, dim=-1)
    return means[..., :rows, :columns].reshape(x.shape).to(x.dtype)


def resize_lowpass(x: Tensor, factor: float) -> Tensor:
    """Bilinear down to (floor(P factor), floor(Q factor)) with antialiasing, bilinear up without (ScaleDiff).

    x is [B, C, P, Q]; half-pixel centres; a side never falls below one cell.
    """
    size = (x.shape[-2], x.shape[-1])
    small = tuple(max(1, int(side * factor)) for side in size)
    low = F.interpolate(_full(x), size=small, mode="bilinear", align_corners=False, antialias=True)
    return F.interpolate(low, size=size, mode="bilinear", align_corners=False).to(x.dtype)


def bicubic(x: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    """x [B, C, P, Q] resampled to `size` (rows, columns), half-pixel centres; unchanged if equal.

    `antialias` changes an enlargement too: torch then has the cubic kernel of a = -0.5, else that of -0.75, which is
    sharper and rings more.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    out = F.interpolate(_full(x), size=tuple(size), mode="bicubic", align_corners=False, antialias=antialias)
    return out.to(x.dtype)


def lanczos(x: Tensor, size: tuple[int, int]) -> Tensor:
    """x [B, C, P, Q] resampled to `size` (rows, columns) by Pillow's Lanczos filter of three lobes; unchanged if equal.

    Antialiased where it gets smaller; on the CPU, in float32 without rounding to 8 bits.
    """
    import numpy as np
    from PIL import Image

    if tuple(x.shape[-2:]) == tuple(size):
        return x
    planes = x.float().cpu().reshape(-1, *x.shape[-2:]).numpy()
    to = size[1], size[0]
    done = [np.asarray(Image.fromarray(plane).resize(to, Image.Resampling.LANCZOS)) for plane in planes]
    return torch.from_numpy(np.stack(done)).reshape(*x.shape[:2], *size).to(x)


def gaussian_blur(x: Tensor, std: float, kernel: int = 3) -> Tensor:
    """x [B, C, P, Q] under a normalised Gaussian of `kernel` taps, standard deviation in cells, borders reflected."""
    half = kernel // 2
    taps = torch.exp(-0.5 * (torch.arange(-half, half + 1, dtype=torch.float32, device=x.device) / std) ** 2)
    taps = taps / taps.sum()
    channels = x.shape[1]
    padded = F.pad(_full(x), (half, half, half, half), mode="reflect").to(taps.dtype)
    rows = F.conv2d(padded, taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(rows, taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels).to(x.dtype)


def sharpen(x: Tensor, std: float | None = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """2 x - blur(x) with a 3x3 Gaussian (HiFlow, HRDiT); x is [B, C, P, Q].

    std = None draws the standard deviation uniformly from `BLUR_RANGE` with `generator`, on every call, as the
    published code does with the global generator.
    """
    if std is None:
        if generator is None:
            raise ValueError("a random standard deviation needs the generator of the image")
        std = float(torch.empty(1, device=generator.device).uniform_(*BLUR_RANGE, generator=generator))
    return 2 * x - gaussian_blur(x, std)


def _full(x: Tensor) -> Tensor:
    """float32 for half precision, which many filters don't have on a CPU; others as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
