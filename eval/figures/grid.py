"""Draw the comparison grid: a row per method, a column per prompt, each image with a magnified crop."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..output.manifest import NothingError
from ..records import images
from ..records.rows import Row

if TYPE_CHECKING:
    from PIL import Image

CELL = 224
INSET = 0.36
MARGIN = 118
HEADER = 62


def grid(rows: list[Row], columns: int, place: tuple[float, float], zoom: float) -> Image.Image:
    """Draw images of one size: a row per method (true renders first), a column per prompt, each with a magnified crop.

    `place` is the centre of the crop and `zoom` its side, as fractions of the image. Raises NothingError if there are
    no images.
    """
    from PIL import Image, ImageDraw

    methods = [row for row in rows if not row.is_reference]
    common = set.intersection(*(set(row.images) for row in methods)) if methods else set()
    keys = sorted(common, key=str)[:columns]
    if not keys:
        raise NothingError("the methods have no image in common")
    missing = [row for row in methods if not all(row.images[key].path.is_file() for key in keys)]
    if missing:
        raise NothingError(f"images of {missing[0].label} are missing; only their records exist")
    renders = [row for row in rows if row.is_reference and set(keys) <= set(row.images)]
    renders = [row for row in renders if all(row.images[key].path.is_file() for key in keys)][:1]
    shown = renders + methods
    width, height = methods[0].run.width, methods[0].run.height
    cell = (CELL, round(CELL * height / width))
    sheet = Image.new("RGB", (MARGIN + len(keys) * (cell[0] + 6), HEADER + len(shown) * (cell[1] + 6)), "white")
    draw = ImageDraw.Draw(sheet)
    write(draw, (4, 6), methods[0].run.model, MARGIN - 8, 13)
    write(draw, (4, 24), f"{width}×{height} px", MARGIN - 8, 13)
    if methods[0].scale:
        write(draw, (4, 42), f"{methods[0].scale:.3g}× training", MARGIN - 8, 12)
    for k, key in enumerate(keys):
        prompt = methods[0].images[key].prompt or key[0]
        write(draw, (MARGIN + k * (cell[0] + 6), 6), f"{prompt} (seed {key[1]})", cell[0] - 4, 11, lines=4)
    for r, row in enumerate(shown):
        top = HEADER + r * (cell[1] + 6)
        write(draw, (4, top + 6), row.label, MARGIN - 8, 13, lines=8)
        for k, key in enumerate(keys):
            try:
                image = Image.fromarray(images.read(row.images[key].path))
            except images.DamagedError as error:
                raise NothingError(f"{row.images[key].path} {error}") from error
            sheet.paste(with_inset(image, cell, place, zoom), (MARGIN + k * (cell[0] + 6), top))
    return sheet


def with_inset(image: Image.Image, cell: tuple[int, int], place: tuple[float, float], zoom: float) -> Image.Image:
    """Return an image resized to a cell, with the crop outlined and magnified in the lower right corner."""
    from PIL import Image, ImageDraw

    width, height = image.size
    side = max(8, round(zoom * min(width, height)))
    left = min(max(round(place[0] * width - side / 2), 0), width - side)
    top = min(max(round(place[1] * height - side / 2), 0), height - side)
    shown = image.resize(cell, Image.Resampling.LANCZOS)
    inset = round(INSET * min(cell))
    sharp = Image.Resampling.NEAREST if side * 2 <= inset else Image.Resampling.LANCZOS
    crop = image.crop((left, top, left + side, top + side)).resize((inset, inset), sharp)
    draw = ImageDraw.Draw(shown)
    fx, fy = cell[0] / width, cell[1] / height
    box = (left * fx, top * fy, (left + side) * fx, (top + side) * fy)
    draw.rectangle(box, outline="black")
    draw.rectangle((box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1), outline="white")
    corner = (cell[0] - inset - 3, cell[1] - inset - 3)
    draw.rectangle((corner[0] - 2, corner[1] - 2, cell[0] - 1, cell[1] - 1), fill="white")
    shown.paste(crop, corner)
    return shown


def write(draw, place: tuple[int, int], text: str, width: int, size: int, lines: int = 1) -> None:
    font = typeface(size)
    words, rows = text.replace("\n", " ").split(" "), [""]
    for word in words:
        longer = f"{rows[-1]} {word}".strip()
        if draw.textlength(longer, font) <= width or not rows[-1]:
            rows[-1] = longer
        else:
            rows.append(word)
    if len(rows) > lines:
        rows = [*rows[: lines - 1], rows[lines - 1] + "…"]
    for k, row in enumerate(rows):
        draw.text((place[0], place[1] + k * (size + 2)), row, fill="black", font=font)


@cache
def typeface(size: int):
    import matplotlib
    from PIL import ImageFont

    # Pillow's own font lacks most characters, and prompts may contain any
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
