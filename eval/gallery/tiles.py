"""Cut images into WebP tiles of several resolutions, and thumbnails. Images that are there are not cut again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from sega.store.files import atomic

from ..records.files import digest
from ..records.rows import Row
from ..records.runs import RunImage

TILE = 1024
THUMB = 256


def identity(image: RunImage) -> str:
    """Return the name of the files of an image."""
    return image.sha[:20] if image.sha else digest([str(image.path), image.path.stat().st_mtime_ns])


def has_images(rows: list[Row]) -> bool:
    """Whether any image of the rows exists."""
    return any(image.path.is_file() for row in rows for image in row.images.values())


def tell(missing: dict[Path, str]) -> None:
    """List on stderr the images that cannot be read."""
    for path, why in missing.items():
        print(f"warning: {path} {why}; left out", file=sys.stderr)


def levels(width: int, height: int) -> int:
    """Return the number of resolutions of an image: it is halved until it fits into one tile."""
    count = 1
    while max(width, height) > TILE << (count - 1):
        count += 1
    return count


def cut_all(rows: list[Row], out: Path, workers: int) -> tuple[int, dict[Path, str]]:
    """Cut new images. Returns their number, and the images that cannot be read with the reason."""
    todo = {identity(image): image.path for row in rows for image in row.images.values()}
    todo = {name: path for name, path in todo.items() if not (out / "thumbs" / f"{name}.webp").exists()}
    reasons = each(partial(cut, out), list(todo.items()), workers)
    missing = {path: why for path, why in zip(todo.values(), reasons, strict=True) if why}
    return len(todo) - len(missing), missing


def each(work: Callable[..., Any], jobs: list[tuple], workers: int) -> list[Any]:
    """Return what `work` returns for the arguments of each job, computed by several processes, with a bar."""
    from tqdm import tqdm

    bar = partial(tqdm, total=len(jobs), desc="gallery", leave=False, disable=None, dynamic_ncols=True)
    columns = list(zip(*jobs, strict=True))
    if workers == 1 or len(jobs) < 2:
        return list(bar(map(work, *columns))) if jobs else []
    with ProcessPoolExecutor(min(workers, len(jobs))) as pool:
        return list(bar(pool.map(work, *columns, chunksize=4)))


def cut(out: Path, name: str, path: Path) -> str:
    """Write the tiles and, last, the thumbnail of an image. Returns "" or the reason why it cannot be read."""
    from PIL import Image

    from ..records import images

    try:
        image = Image.fromarray(images.read(path))
    except images.DamagedError as error:
        return str(error)
    folder = out / "tiles" / name
    folder.mkdir(parents=True, exist_ok=True)
    small = max(image.size) <= TILE  # small images stay exact
    for level in range(levels(*image.size)):
        reduced = image.reduce(2**level)  # sides round up, as the page expects of the last tile
        for column, row, box in boxes(reduced.size):
            reduced.crop(box).save(folder / f"{level}-{column}-{row}.webp", lossless=small, quality=90)
    image.thumbnail((THUMB, THUMB), Image.Resampling.LANCZOS)
    (out / "thumbs").mkdir(exist_ok=True)
    with atomic(out / "thumbs" / f"{name}.webp") as scratch:
        image.save(scratch, "WEBP", quality=85)
    return ""


def boxes(size: tuple[int, int]) -> Iterator[tuple[int, int, tuple[int, int, int, int]]]:
    """Yield column, row and pixel box of each tile of an image."""
    width, height = size
    for row, top in enumerate(range(0, height, TILE)):
        for column, left in enumerate(range(0, width, TILE)):
            yield column, row, (left, top, min(left + TILE, width), min(top + TILE, height))
