"""Write the small images of the page: the whole image reduced, and a part of it at its own resolution."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sega.store.files import atomic

from ..figures.crops import Crop, Place
from ..records.rows import Row
from .types import Answer

if TYPE_CHECKING:
    from PIL import Image

SIDE = 192  # of the longer side of a reduced image, in pixels
PART = 0.25  # side of the part, as a fraction of the shorter side of the image
QUALITY = 75  # of the JPEG


def write(answer: Answer, rows: Iterable[Row], out: Path) -> set[str]:
    """Write the images and remove those that are not shown. Returns the names of those that are there.

    Files are named by the hash of the image, so that of another machine are kept where only records are.
    """
    from PIL import Image

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
        there = {name: Image.fromarray(image) for name, image in found.items() if image is not None}
        if there:
            place = Crop("detail", PART).place(list(there.values()))  # of all methods alike, so it favours none
            for name, image in there.items():
                _write(folder, name, image, place)
    for path in folder.glob("*.jpg"):
        if path.stem.removesuffix("-part") not in wanted:
            path.unlink()
    return {name for name in wanted if all((folder / f"{name}{end}.jpg").is_file() for end in ("", "-part"))}


def _write(folder: Path, name: str, image: Image.Image, place: Place) -> None:
    from PIL import Image

    part = image.crop(place.box(image.size, max(2, round(PART * min(image.size)))))
    part.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    folder.mkdir(parents=True, exist_ok=True)
    for path, item in ((folder / f"{name}.jpg", image), (folder / f"{name}-part.jpg", part)):
        with atomic(path) as scratch:
            item.save(scratch, "JPEG", quality=QUALITY, optimize=True)
