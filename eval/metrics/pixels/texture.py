"""Measure texture as two public benchmarks do: the GLCM score, and how far JPEG compresses an image.

Both rise with detail and with noise alike. Diffusion-4K (arXiv 2506.01331, zhang0jhon/diffusion-4k) prints both,
PixVerve-Bench (arXiv 2605.20147, HaojunChen663/PixVerve-95K) the GLCM score in a form of its own.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np

from ..measures import Batch, Context

TILE, LEVELS, DISTANCES = 64, 64, (1, 2, 3, 4)
ANGLES = (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
QUALITY = 95
"""Of the JPEG files of Diffusion-4K."""


def glcm(context: Context) -> Callable[[Batch], list]:
    """Return the measure GLCM score. None for an image smaller than a tile of 64 px."""
    options = context.config["glcm"]

    def compute(batch: Batch) -> list:
        seen = [decoded(image) if options["jpeg"] else image for image in batch.images]
        return [glcm_score(gray_levels(image, options["variant"]), options["variant"]) for image in seen]

    return compute


def compression(context: Context) -> Callable[[Batch], list]:
    """Return the measure: bytes of the pixels over bytes of the image as JPEG of quality 95 (as Pillow writes it)."""
    return lambda batch: [image.size / len(jpeg(image)) for image in batch.images]


def gray_levels(image: np.ndarray, variant: str) -> np.ndarray:
    """Return an image uint8 [H, W, 3] in 64 levels of grey, uint8 [H, W].

    Diffusion-4K converts by OpenCV and PixVerve by Pillow. They round differently, so few pixels differ by one level.
    """
    if variant == "pixverve":
        from PIL import Image

        gray = np.asarray(Image.fromarray(image).convert("L"))
    else:
        import cv2

        gray = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return gray // (256 // LEVELS)


def glcm_score(levels: np.ndarray, variant: str) -> float | None:
    """Return the mean of `tile_score` over whole tiles of 64 px from the top left. None without a whole tile."""
    rows, columns = levels.shape[0] // TILE, levels.shape[1] // TILE
    tiles = levels[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE).swapaxes(1, 2)
    scores = [tile_score(tile, variant == "pixverve") for tile in tiles.reshape(-1, TILE, TILE)]
    return float(np.mean(scores)) if scores else None


def tile_score(tile: np.ndarray, symmetric: bool) -> float:
    """Return the score of one tile in bits: `shannon_entropy` of its normalised co-occurrence matrices together.

    This is not the entropy -sum p log p of the matrices, which is several times larger: scikit-image counts how often
    each value occurs in the array of all matrices, and returns the entropy of these counts. Diagonal distances 1 and 2
    are rounded to one pixel each, so they give the same matrix. Both are so in the published code.
    """
    from skimage.feature import graycomatrix
    from skimage.measure import shannon_entropy

    return float(shannon_entropy(graycomatrix(tile, DISTANCES, ANGLES, LEVELS, symmetric=symmetric, normed=True)))


def jpeg(image: np.ndarray) -> bytes:
    """Return an image uint8 [H, W, 3] as a JPEG file of quality 95."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def decoded(image: np.ndarray) -> np.ndarray:
    """Return an image as its JPEG of quality 95 shows it, uint8 [H, W, 3]."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(jpeg(image))))
