"""PIQE on one core while a picture is decoded: the score of `pyiqa`, without its maps and their memory.

pyiqa's version is written for GPUs and takes over ten times as long on a core, which made this one measure cost more
than all networks of the evaluation (`scripts/bench_eval.py`). It remains the oracle of the tests. The blind score is of
Venkatanath et al., "Blind image quality evaluation using perception based features", NCC 2015.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 16
WINDOW, SIGMA = 7, 7 / 6
"""Side and width of the Gaussian that local mean and contrast are taken with, px."""
ACTIVE = 0.1
"""Variance of normalised luminance from which a block counts."""
SEGMENT, UNIFORM = 6, 0.1
"""Pixels of a piece of a block's edge, and the deviation below which such a piece is an artefact."""
STRIP = 8 * BLOCK
"""Rows worked on at once, so that they stay in a core's cache."""


def piqe(picture: np.ndarray) -> float:
    """Score of a picture uint8 [H, W, 3], 0 (best) to 100; within 0.01 of pyiqa's.

    Sides that are no multiple of 16 px are continued by reflection as far as their remainder, as pyiqa does it; what
    fills no block after that is left out. The brightest value counts as 255.
    """
    grey = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    grey *= np.float32(255) / max(grey.max(), np.float32(1e-6))
    np.rint(grey, out=grey)
    grey = np.pad(grey, [(0, side % BLOCK) for side in grey.shape], mode="symmetric")
    distortion, active = 0.0, 0
    for strip in _normalised(grey):
        amount, number = _blocks(strip)
        distortion, active = distortion + amount, active + number
    return float((distortion + 1) / (active + 1) * 100)


def _normalised(grey: np.ndarray) -> Iterator[np.ndarray]:
    """Luminance less its local mean, over its local deviation plus 1: strips [rows, W], whole blocks only."""
    import cv2

    cv2.setNumThreads(1)  # pictures go side by side on worker processes
    weights = np.exp(-(np.arange(-(WINDOW // 2), WINDOW // 2 + 1) ** 2) / (2 * SIGMA**2))
    weights = (weights / weights.sum()).astype(np.float32)
    around = WINDOW // 2
    height, width = (side // BLOCK * BLOCK for side in grey.shape)
    padded = np.pad(grey, around, mode="edge")
    for top in range(0, height, STRIP):
        rows = min(STRIP, height - top)
        part = np.ascontiguousarray(padded[top : top + rows + 2 * around])
        inner = slice(around, around + rows), slice(around, around + width)
        mean, square = (cv2.sepFilter2D(x, -1, weights, weights)[inner] for x in (part, part * part))
        yield (part[inner] - mean) / (np.sqrt(np.abs(square - mean * mean)) + 1)


def _blocks(strip: np.ndarray) -> tuple[float, int]:
    """Summed distortion of the active blocks in a strip [rows, W], and their number."""
    rows, columns = (side // BLOCK for side in strip.shape)
    tall = strip.reshape(rows, BLOCK, columns * BLOCK)
    sums = tall.sum(1).reshape(rows, columns, BLOCK).astype(np.float64)  # of each column of each block
    squares = np.einsum("rbc,rbc->rc", tall, tall).reshape(rows, columns, BLOCK).astype(np.float64)
    variance = _variance(sums.sum(-1), squares.sum(-1), BLOCK * BLOCK)
    # pyiqa takes columns 7 and 8 for the centre, and leaves out 7 and 9 for what is around it.
    centre = _variance(sums[..., 7:9].sum(-1), squares[..., 7:9].sum(-1), 2 * BLOCK)
    outer = [k for k in range(BLOCK) if k not in (7, 9)]
    around = _variance(sums[..., outer].sum(-1), squares[..., outer].sum(-1), len(outer) * BLOCK)
    deviation = np.sqrt(variance)
    with np.errstate(divide="ignore", invalid="ignore"):  # flat blocks; a comparison with NaN is false
        ratio = np.nan_to_num(np.sqrt(centre) / np.sqrt(around))
        noisy = deviation > 2 * np.abs(deviation - ratio) / np.maximum(deviation, ratio)
    wide = strip.reshape(rows, BLOCK, columns, BLOCK)
    edges = (wide[:, 0], wide[:, -1], wide[..., 0].swapaxes(1, 2), wide[..., -1].swapaxes(1, 2))
    impaired = np.any([_has_uniform_piece(edge) for edge in edges], axis=0)
    active = variance > ACTIVE
    return float((active * (impaired * (1 - variance) + noisy * variance)).sum()), int(active.sum())


def _has_uniform_piece(edge: np.ndarray) -> np.ndarray:
    """Whether an edge [..., 16] has a piece of `SEGMENT` pixels that hardly vary: bool [...]."""
    sums = np.zeros((2, *edge.shape[:-1], BLOCK + 1))
    np.cumsum([edge, edge * edge], axis=-1, out=sums[..., 1:])
    total, square = sums[..., SEGMENT:] - sums[..., :-SEGMENT]
    return (_variance(total, square, SEGMENT) < UNIFORM**2).any(-1)


def _variance(total: np.ndarray, square: np.ndarray, count: int) -> np.ndarray:
    """Unbiased variance from sums over `count` values."""
    return np.maximum(square - total * total / count, 0) / (count - 1)
