"""Compute PIQE on one core: the score of `pyiqa`, without its maps and their memory.

pyiqa's version is written for GPUs and takes 25 times as long on a core, so this one measure took longer than all
networks of the embedded protocol (`scripts/bench_eval.py`). The tests compare with it.
Source: Venkatanath et al., "Blind image quality evaluation using perception based features", NCC 2015.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 16
WINDOW, SIGMA = 7, 7 / 6
"""Side and width in pixels of the Gaussian for local mean and contrast."""
ACTIVE = 0.1
"""Smallest variance of normalised luminance of an active block."""
SEGMENT, UNIFORM = 6, 0.1
"""Pixels of a segment of a block edge, and the deviation below which a segment is an artefact."""
STRIP = 4 * BLOCK
"""Rows that are processed together; few enough for the cache of a core."""

PARTS = np.array([[1, column in (7, 8), column not in (7, 9)] for column in range(BLOCK)], float)
"""Weights of the columns for the whole block, its centre and its surround. pyiqa's surround leaves out 7 and 9."""


def piqe(image: np.ndarray) -> float:
    """Return the score of an image uint8 [H, W, 3], 0 (best) to 100; within 0.01 of pyiqa's, except at thresholds.

    A side that is not a multiple of 16 px is padded by reflection of its remainder, as in pyiqa. Pixels that fill no
    block are left out. The brightest value is scaled to 255.
    """
    grey = _grey(image)
    remainders = [(0, side % BLOCK) for side in grey.shape]
    distortion, active = 0.0, 0
    for strip in _normalised(np.pad(grey, remainders, mode="symmetric") if np.any(remainders) else grey):
        amount, number = _blocks(strip)
        distortion, active = distortion + amount, active + number
    return float((distortion + 1) / (active + 1) * 100)


def _grey(image: np.ndarray) -> np.ndarray:
    """Return the luminance in whole numbers, with maximum 255: float32 [H, W]."""
    grey, weights = np.empty(image.shape[:2], np.float32), np.array([0.299, 0.587, 0.114], np.float32)
    strip = np.empty((STRIP, *image.shape[1:]), np.float32)
    for top in range(0, len(grey), STRIP):
        rows = slice(0, len(image[top : top + STRIP]))
        np.copyto(strip[rows], image[top : top + STRIP])
        np.matmul(strip[rows], weights, out=grey[top : top + STRIP])
    grey *= np.float32(255) / max(grey.max(), np.float32(1e-6))
    return np.rint(grey, out=grey)


def _normalised(grey: np.ndarray) -> Iterator[np.ndarray]:
    """Yield luminance minus its local mean, over its local deviation plus 1: strips [rows, W] of whole blocks.

    The next strip overwrites a strip, because new memory would take longer than the arithmetic.
    """
    import cv2

    cv2.setNumThreads(1)  # worker processes already use all cores
    around = WINDOW // 2
    weights = np.exp(-(np.arange(-around, around + 1) ** 2) / (2 * SIGMA**2))
    weights = (weights / weights.sum()).astype(np.float32)
    height, width = (side // BLOCK * BLOCK for side in grey.shape)
    square, mean, deviation = (np.empty((STRIP + 2 * around, grey.shape[1]), np.float32) for _ in range(3))
    strip = np.empty((STRIP, width), np.float32)
    for top in range(0, height, STRIP):
        first, rows = max(0, top - around), min(STRIP, height - top)
        part = grey[first : top + rows + around]
        n, inner = len(part), (slice(top - first, top - first + rows), slice(width))
        np.multiply(part, part, out=square[:n])
        for source, target in ((part, mean), (square[:n], deviation)):
            cv2.sepFilter2D(source, -1, weights, weights, dst=target[:n], borderType=cv2.BORDER_REPLICATE)
        centre, spread, values = mean[inner], deviation[inner], strip[:rows]
        np.multiply(centre, centre, out=values)
        np.subtract(spread, values, out=spread)
        np.sqrt(np.abs(spread, out=spread), out=spread)
        spread += 1
        np.subtract(part[inner], centre, out=values)
        values /= spread
        yield values


def _blocks(strip: np.ndarray) -> tuple[float, int]:
    """Return the summed distortion of the active blocks in a strip [rows, W], and their number."""
    rows, columns = (side // BLOCK for side in strip.shape)
    tall = strip.reshape(rows, BLOCK, columns * BLOCK)
    sums = tall.sum(1).reshape(rows, columns, BLOCK).astype(np.float64) @ PARTS
    squares = np.einsum("rbc,rbc->rc", tall, tall).reshape(rows, columns, BLOCK).astype(np.float64) @ PARTS
    variance, centre, around = np.moveaxis(_variance(sums, squares, BLOCK * PARTS.sum(0)), -1, 0)
    deviation = np.sqrt(variance)
    with np.errstate(divide="ignore", invalid="ignore"):  # flat blocks; a comparison with NaN is false
        ratio = np.nan_to_num(np.sqrt(centre) / np.sqrt(around))
        noisy = deviation > 2 * np.abs(deviation - ratio) / np.maximum(deviation, ratio)
    wide = strip.reshape(rows, BLOCK, columns, BLOCK)
    edges = (wide[:, 0], wide[:, -1], wide[..., 0].swapaxes(1, 2), wide[..., -1].swapaxes(1, 2))
    impaired = _have_uniform_pieces(np.stack([edge.transpose(2, 0, 1) for edge in edges], axis=1)).any(0)
    active = variance > ACTIVE
    return float((active * (impaired * (1 - variance) + noisy * variance)).sum()), int(active.sum())


def _have_uniform_pieces(edges: np.ndarray) -> np.ndarray:
    """Return which edges [16, ...] have a segment of `SEGMENT` pixels that hardly vary: bool [...]."""
    squares, found = edges * edges, np.zeros(edges.shape[1:], bool)
    total, square = edges[:SEGMENT].sum(0), squares[:SEGMENT].sum(0)
    limit = UNIFORM**2 * SEGMENT * (SEGMENT - 1)
    for first in range(BLOCK - SEGMENT + 1):
        if first:
            total += edges[first + SEGMENT - 1] - edges[first - 1]
            square += squares[first + SEGMENT - 1] - squares[first - 1]
        found |= square * SEGMENT - total * total < limit
    return found


def _variance(total: np.ndarray, square: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the unbiased variance from sums over `count` values."""
    return np.maximum(square - total * total / count, 0) / (count - 1)
