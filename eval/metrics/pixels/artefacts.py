"""Measure artefacts of extrapolation in the luminance of one image, with pure functions of float64 arrays.

The artefacts are too much or too little fine structure, scenes that repeat at the training size, lines between
windows, and speckle on flat ground.
"""

from __future__ import annotations

import numpy as np

QUANTISED = 1.5 / 12
"""Error of rounding to whole values in a squared second difference. It keeps the result finite for flat images."""
SPECKLE_TILE = 32
"""Side of the tiles of `flat_speckle` in pixels."""


def radial_spectrum(luminance: np.ndarray, bands: int) -> np.ndarray:
    """Return 10 log10 of the mean power in each band, float64 [at most bands].

    The mean of the image [H, W] in 0..255 is removed and a Hann window applied. Frequencies run from one cycle over the
    shorter side to half a cycle a pixel; band edges are log-spaced and rounded to whole cycles, so that no band is
    empty. White noise of quantisation (1/12) is added, which keeps flat images finite.
    """
    height, width = luminance.shape
    window = np.hanning(height)[:, None] * np.hanning(width)[None]
    power = np.abs(np.fft.rfft2((luminance - luminance.mean()) * window)) ** 2 / (window**2).sum()
    side = min(height, width)
    ring = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) * side
    edges = ring_edges(side, bands)
    place = np.digitize(np.rint(ring), edges) - 1
    inside = (place >= 0) & (place < len(edges) - 1)
    weight = np.full(power.shape, 2.0)  # rfft2 holds half the plane
    weight[:, 0] = 1
    if width % 2 == 0:
        weight[:, -1] = 1
    total = np.bincount(place[inside], (power * weight)[inside], len(edges) - 1)
    count = np.bincount(place[inside], weight[inside], len(edges) - 1)
    return 10 * np.log10(total / count + 1 / 12)


def ring_edges(side: int, bands: int) -> np.ndarray:
    """Return the edges of the rings in cycles per side, log-spaced and rounded: int64 [rings + 1]."""
    return np.unique(np.round(np.geomspace(1, side // 2 + 1, bands + 1)).astype(int))


def upper_octave(side: int, bands: int) -> np.ndarray:
    """Return which rings are above half the Nyquist frequency: bool [rings]."""
    edges = ring_edges(side, bands)
    return edges[:-1] >= (edges[-1] - 1) / 2


def seam_energy(luminance: np.ndarray, period: int) -> float | None:
    """Return the roughness across the lines of a lattice over that beside them, in dB. None for an image without lines.

    Across each line between pixels x - 1 and x, the jump less the mean of the jumps on both sides is squared; the
    median along the line counts, since a seam runs all along it and the edge of an object does not. Lines at
    multiples of `period` are compared with those up to a quarter of a period away (the two next to the lattice left
    out, since a jump shows in them), as means of decibels over both axes: in a mean of energies a horizon near a
    line outweighed all others. About 0 without seams, give or take 1 dB for one image with several lines.
    """
    found = []
    for y in (luminance, luminance.T):
        jump = np.diff(y, axis=0)
        middle = jump[1:-1] - (jump[:-2] + jump[2:]) / 2
        rough = 10 * np.log10(np.median(middle**2, axis=1) + QUANTISED)  # row i is the line before pixel i + 2
        for line in range(period, len(y) - 2, period):
            near = [line + s * d for s in (-1, 1) for d in range(3, max(4, period // 4) + 1)]
            near = [x - 2 for x in near if 2 <= x < len(y) - 1]
            if near:
                found.append(rough[line - 2] - rough[near].mean())
    return float(np.mean(found)) if found else None


def repetition_at(luminance: np.ndarray, period: int) -> float | None:
    """Return the autocorrelation r at a shift of `period` minus the mean of r at 3/4 and 5/4 of it.

    None for an image smaller than two periods. Along x the mean of each row is removed first, because a horizon
    correlates with itself at any shift. Along y it is kept, because a repeated horizon has to be found. An image
    that is tiled at the period has about 1, one without a period about 0.
    """
    found = []
    for axis, length in ((0, luminance.shape[0]), (1, luminance.shape[1])):
        if length < 2 * period:
            continue
        y = luminance if axis == 0 else (luminance - luminance.mean(1, keepdims=True)).T
        r = [_shifted(y, round(period * factor)) for factor in (0.75, 1.0, 1.25)]
        found.append(r[1] - (r[0] + r[2]) / 2)
    return max(found) if found else None


def _shifted(y: np.ndarray, lag: int) -> float:
    a, b = y[:-lag] - y[:-lag].mean(), y[lag:] - y[lag:].mean()
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-9))


def flat_speckle(luminance: np.ndarray) -> float | None:
    """Return the variance of the Laplacian in the flattest 10 % of the tiles of 32 px, mean over these tiles.

    A tile is flat if the means of its blocks of 4 px vary little, so speckle itself hardly decides which tiles count.
    White noise of variance v has 20 v, rounding to whole values alone up to 20/12. None without a whole tile.
    """
    rows, columns = luminance.shape[0] // SPECKLE_TILE, luminance.shape[1] // SPECKLE_TILE
    if not rows * columns:
        return None
    cut = luminance[: rows * SPECKLE_TILE, : columns * SPECKLE_TILE]
    tiles = cut.reshape(rows, SPECKLE_TILE, columns, SPECKLE_TILE).swapaxes(1, 2).reshape(-1, *[SPECKLE_TILE] * 2)
    blocks = SPECKLE_TILE // 4
    structure = tiles.reshape(-1, blocks, 4, blocks, 4).mean((2, 4)).var((1, 2))
    flat = np.argsort(structure, kind="stable")[: max(1, round(0.1 * len(tiles)))]
    y = tiles[flat]
    middle, sides = y[:, 1:-1, 1:-1], y[:, :-2, 1:-1] + y[:, 2:, 1:-1] + y[:, 1:-1, :-2] + y[:, 1:-1, 2:]
    return float((sides - 4 * middle).var((1, 2)).mean())
