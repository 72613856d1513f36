"""Read images: once for all metrics, on worker processes, and with a reason for each damaged one."""

from __future__ import annotations

import hashlib
import io
import os
import random
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sega.errors import RequestError

if TYPE_CHECKING:
    from PIL import Image

PIXELS = 2**24
"""Largest number of pixels in a batch, so that memory does not grow with the size of images."""


BACKGROUND = "white"
"""Background of transparent images."""
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of Pillow with more than 8 bits."""
ORIENTATION = 0x0112


class DamagedError(Exception):
    """Raised for an image that cannot be used. The message gives the reason."""


def unreadable() -> tuple[type[Exception], ...]:
    """Return the errors that Pillow raises for damaged files of any format."""
    from PIL.Image import DecompressionBombError

    lengths = (TypeError, KeyError, IndexError, OverflowError, struct.error)  # for fields that are missing or wrong
    return OSError, SyntaxError, ValueError, EOFError, DecompressionBombError, *lengths


def decode(data: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode an image to uint8 [H, W, 3]. Raises DamagedError, also if the size is not the expected (W, H).

    The EXIF orientation is applied, values of more than 8 bits are scaled, and transparency gets a white background.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as file:
            file.load()
            image = to_rgb(ImageOps.exif_transpose(file))
    except unreadable() as error:
        why = "no image format" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        raise DamagedError(f"can't be decoded ({why})") from error
    if size and (image.shape[1], image.shape[0]) != tuple(size):
        raise DamagedError(f"is {image.shape[1]}x{image.shape[0]} and not {size[0]}x{size[1]}")
    return image


def to_rgb(file: Image.Image) -> np.ndarray:
    """Convert a PIL image of any mode to uint8 [H, W, 3]. Floats that are NaN or outside 0 to 255 raise ValueError."""
    from PIL import Image

    if file.mode in DEEP:
        return np.repeat(_to_8_bits(np.asarray(file))[..., None], 3, axis=-1)
    if has_alpha(file):
        below = Image.new("RGBA", file.size, BACKGROUND)
        below.alpha_composite(file.convert("RGBA"))
        file = below
    return np.asarray(file.convert("RGB"))


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scale values to uint8: whole numbers from 0 to 65535, floats from 0 to 1 or from 0 to 255."""
    whole = np.issubdtype(values.dtype, np.integer)
    values = values.astype(np.float64)
    low, high = values.min(), values.max()
    top = 65535.0 if whole else 1.0 if high <= 1 else 255.0
    if not (low >= 0 and high <= top):  # NaN compares as false
        raise ValueError(f"values from {low:g} to {high:g} have no known range")
    return np.rint(values * (255 / top)).astype(np.uint8)


def has_alpha(file: Image.Image) -> bool:
    """Return whether parts of a PIL image may be transparent."""
    return file.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in file.info


def changes(path: Path) -> list[str]:
    """Return the changes that `decode` makes to an image, from the head of its file. [] if it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            found = [f"of mode {file.mode} are scaled to 8 bits"] if file.mode in DEEP or _is_16_bit(file) else []
            found += ["are rotated to their EXIF orientation"] if file.getexif().get(ORIENTATION, 1) != 1 else []
            found += [f"are transparent and get a {BACKGROUND} background"] if has_alpha(file) else []
            found += ["have several frames; the first is used"] if getattr(file, "n_frames", 1) > 1 else []
            return found
    except unreadable():
        return []


def _is_16_bit(file: Image.Image) -> bool:
    """Return whether a colour file has 16 bits per channel. Pillow keeps the upper 8, since it has no mode for 16."""
    tiles = [str(argument) for tile in getattr(file, "tile", ()) for argument in tile[3:]]
    return any("16" in argument for argument in tiles)


def read(path: Path, sha: str | None = None, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read an image. Raises DamagedError if it is missing, broken or differs from its record."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedError("is missing" if not path.exists() else f"can't be read ({error.strerror})") from error
    image = decode(data, size)
    if sha and hashlib.sha256(data).hexdigest() != sha:
        raise DamagedError("differs from its record")
    return image


def size(path: Path) -> tuple[int, int] | None:
    """Return (W, H) from the head of a file, None if it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            turned = file.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
            return file.size[::-1] if turned else file.size
    except unreadable():
        return None


def reduced(path: Path, size: tuple[int, int], filter: str) -> np.ndarray:
    """Read an image, cut its middle to the aspect of (W, H) and resample it to that size.

    An image that is smaller than (W, H) raises DamagedError.
    """
    from PIL import Image

    image = Image.fromarray(read(path))
    if image.width < size[0] or image.height < size[1]:
        raise DamagedError(f"is {image.width}x{image.height}, which is smaller than {size[0]}x{size[1]}")
    scale = min(image.width / size[0], image.height / size[1])
    width, height = size[0] * scale, size[1] * scale
    left, top = (image.width - width) / 2, (image.height - height) / 2
    box = (left, top, left + width, top + height)
    return np.asarray(image.resize(size, Image.Resampling[filter.upper()], box))


@cache
def _pool(workers: int) -> ProcessPoolExecutor:
    # spawned, since torch's threads don't survive a fork; kept for all runs of a command
    return ProcessPoolExecutor(workers, get_context("spawn"), _one_thread)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported; as many workers as cores would crowd them


def results(tasks: Sequence[Callable[[], Any]], workers: int) -> Iterator[Any]:
    """Yield what the tasks return, in their order, or the DamagedError they raise.

    Tasks run on `workers` processes (0: in this one) and must be picklable then. At most two results per worker wait,
    so memory is bounded.
    """
    if not workers:
        for task in tasks:
            yield _attempt(task)
        return
    window: deque[Future[Any]] = deque()
    rest = iter(tasks)
    try:
        for task in rest:
            window.append(_pool(workers).submit(_attempt, task))
            if len(window) >= 2 * workers:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    except BrokenProcessPool as error:
        _pool.cache_clear()
        raise RequestError(
            f"a worker process was killed, probably for lack of memory; use fewer than {workers=}"
        ) from error
    finally:
        for future in window:
            future.cancel()


def _attempt(task: Callable[[], Any]) -> Any:
    try:
        return task()
    except DamagedError as error:
        return error


def batches(found: Iterator[Any], batch: int) -> Iterator[tuple[list[int], np.ndarray | None, dict[int, str]]]:
    """Group images uint8 [H, W, 3] or DamagedErrors into batches: yields (indices, uint8 [B, H, W, 3], damaged).

    Images of one batch have one size. `damaged` maps indices to reasons, with the batch in which they occur. The array
    is None if a batch has damaged images only.
    """
    held: list[tuple[int, np.ndarray]] = []
    damaged: dict[int, str] = {}

    def close() -> tuple[list[int], np.ndarray | None]:
        indices, images = [i for i, _ in held], np.stack([p for _, p in held]) if held else None
        held.clear()
        return indices, images

    for i, image in enumerate(found):
        if isinstance(image, DamagedError):
            damaged[i] = str(image)
            continue
        limit = max(1, min(batch, PIXELS // (image.shape[0] * image.shape[1])))
        if held and (held[0][1].shape != image.shape or len(held) >= limit):
            yield *close(), damaged
            damaged = {}
        held.append((i, image))
    if held or damaged:
        yield *close(), damaged


def crops(image: np.ndarray, size: int, count: int, seed: int, key: tuple[str, int]) -> np.ndarray:
    """Cut crops [count, size, size, 3] from an image. Their coordinates depend on (seed, prompt id, image seed) only.

    Coordinates are fractions of the free room, so equal keys give the same crops for every method and size. Raises
    DamagedError if the image is smaller than a crop.
    """
    height, width = image.shape[:2]
    if min(height, width) < size:
        raise DamagedError(f"is smaller than a crop of {size} px")
    words = np.frombuffer(hashlib.sha256(f"{seed}/{key[0]}/{key[1]}".encode()).digest(), np.uint32)
    places = np.random.default_rng(words).random((count, 2))
    tops = np.floor(places[:, 0] * (height - size + 1)).astype(int)
    lefts = np.floor(places[:, 1] * (width - size + 1)).astype(int)
    return cut(image, size, np.stack([tops, lefts], 1))


def ordered_places(room: int, count: int, seed: int) -> Callable[[int], np.ndarray]:
    """Return a function that gives the places [count, 2] (top, left) in pixels of the crops of image `number`.

    Python's generator is seeded once and draws the places of all images in order, both ends of 0..room included, as
    PixVerve-Bench does (HaojunChen663/PixVerve-95K, eval/metrics.py). So images of equal number have equal places.
    """
    generator = random.Random(seed)
    drawn: list[list[list[int]]] = []

    def places(number: int) -> np.ndarray:
        while len(drawn) <= number:
            drawn.append([[generator.randint(0, room) for _ in range(2)] for _ in range(count)])
        return np.array(drawn[number])

    return places


def squared(image: np.ndarray, side: int) -> np.ndarray:
    """Resample an image uint8 [H, W, 3] to a square by Lanczos. Its aspect ratio is not kept."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))


def cut(image: np.ndarray, size: int, places: np.ndarray) -> np.ndarray:
    """Cut crops [count, size, size, 3] at places [count, 2] (top, left) in pixels."""
    return np.stack([image[top : top + size, left : left + size] for top, left in places])
