"""Write the small images of the page: the whole image reduced, and a part of it at its own resolution."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sega.store.files import atomic

from ..records.rows import Row
from .types import Answer

SIDE = 192  # of the longer side of a reduced image, in pixels
PART = 0.25  # side of the part, as a fraction of the shorter side of the image
QUALITY = 75  # of the JPEG


def write(answer: Answer, rows: Iterable[Row], out: Path) -> set[str]:
    """Write the images and remove those that are not shown. Returns the names of those that are there.

    Files are named by the hash of the image, so that of another machine are kept where only records are.
    """
    from ..records import images

    known = {image.sha[:16]: image for row in rows for image in row.images.values() if image.sha}
    folder, wanted = out / "images", set()
    for section in answer.sections:
        names = sorted({method.image for method in section.methods if method.image})
        wanted |= set(names)
        found = {}
        for name in names:
            try:
                found[name] = images.read(known[name].path, known[name].sha) if name in known else None
            except images.DamagedError:
                found[name] = None  # it is shown as missing
        pixels = {name: image for name, image in found.items() if image is not None}
        if pixels:
            place = busiest(list(pixels.values()))
            for name, image in pixels.items():
                _write(folder, name, image, place)
    for path in folder.glob("*.jpg"):
        if path.stem.removesuffix("-part") not in wanted:
            path.unlink()
    return {name for name in wanted if all((folder / f"{name}{end}.jpg").is_file() for end in ("", "-part"))}


def busiest(images: list[np.ndarray]) -> tuple[int, int, int]:
    """Return left, top and side of the square with the most fine structure in the mean of all images' gradients.

    `images` are [H, W, 3] of one size. The place depends on all methods alike, so it favours none.
    """
    energy = np.zeros(images[0].shape[:2])
    for image in images:
        grey = image.astype(np.float64).mean(axis=2)
        down, right = np.gradient(grey)
        energy += np.hypot(down, right)
    height, width = energy.shape
    side = max(2, min(round(PART * min(width, height)), width, height))
    total = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    step = max(1, side // 8)  # a coarse grid, so that the last digits of a sum do not move the place
    top, left = np.unravel_index(int(np.round(sums[::step, ::step]).argmax()), sums[::step, ::step].shape)
    return int(left) * step, int(top) * step, side


def _write(folder: Path, name: str, pixels: np.ndarray, place: tuple[int, int, int]) -> None:
    from PIL import Image

    image = Image.fromarray(pixels)
    left, top, side = place
    part = image.crop((left, top, left + side, top + side))
    part.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    folder.mkdir(parents=True, exist_ok=True)
    for path, item in ((folder / f"{name}.jpg", image), (folder / f"{name}-part.jpg", part)):
        with atomic(path) as scratch:
            item.save(scratch, "JPEG", quality=QUALITY, optimize=True)
