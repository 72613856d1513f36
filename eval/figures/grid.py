"""Draw images of all methods, each with a magnified crop: the grid of several prompts, and a sheet of one prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..output.manifest import NothingError
from ..records import images
from ..records.rows import Row
from .crops import COVERED, Crop, Place
from .text import drawable, height, wrap, write

if TYPE_CHECKING:
    from PIL import Image

    from ..records.runs import Key

CELL = 224
"""Side of a square cell in pixels. Other shapes have the same area."""
MARGIN = 132
GAP = 6
NAME, PROMPT = 14, 12
"""Sizes of text in pixels."""
LINES = 4
SHEET = 160
"""Side of a square cell of the sheet."""
ACROSS = 6
"""Square cells in a row of the sheet; wide ones are fewer, tall ones more."""


def grid(rows: list[Row], columns: int, crop: Crop) -> Image.Image:
    """Draw images of one size: a row per method (true renders first), a column per prompt, each with a magnified crop.

    The crop is at one place in all images of a prompt. Raises NothingError if there are no images.
    """
    from PIL import Image

    shown, keys = _shown(rows, columns)
    methods = [row for row in shown if not row.is_reference]
    run = methods[0].run
    cell = cell_of(run.width, run.height)
    across, down = cell[0] + GAP, cell[1] + GAP
    facts = _facts(methods[0])
    prompts = [drawable(methods[0].images[key].prompt or key[0]) for key in keys]
    lines = max(len(wrap(prompt, cell[0] - 4, PROMPT, LINES)) for prompt in prompts)
    head = 8 + max(len(facts) * height(NAME), (lines + 1) * height(PROMPT))
    width = MARGIN + len(keys) * across
    sheet = Image.new("RGB", (width, head + len(shown) * down + below(crop, width)), "white")
    for k, fact in enumerate(facts):
        write(sheet, (4, 4 + k * height(NAME)), fact, MARGIN - 8, NAME)
    for k, (key, prompt) in enumerate(zip(keys, prompts, strict=True)):
        left = MARGIN + k * across
        used = write(sheet, (left, 4), prompt, cell[0] - 4, PROMPT, LINES)
        write(sheet, (left, 4 + used * height(PROMPT)), f"seed {key[1]}", cell[0] - 4, PROMPT, fill="#666666")
        pixels = [enough(_read(row, key), crop.side) for row in shown]
        place = crop.place([image for image, row in zip(pixels, shown, strict=True) if not row.is_reference])
        for r, image in enumerate(pixels):
            sheet.paste(with_inset(image, cell, place, crop.side), (left, head + r * down))
    for r, row in enumerate(shown):
        write(sheet, (4, head + r * down), row.label, MARGIN - 8, NAME, lines=cell[1] // height(NAME))
    write(sheet, (4, head + len(shown) * down), crop.sentence, width - 8, PROMPT, LINES, fill="#666666")
    return sheet


def below(crop: Crop, width: int) -> int:
    """Return the height of the sentence on the crop under a figure of this width."""
    return len(wrap(crop.sentence, width - 8, PROMPT, LINES)) * height(PROMPT) + 8


def sheet(rows: list[Row], crop: Crop, prompt: str | None = None, seed: int | None = None) -> Image.Image:
    """Draw the images of one prompt by all methods with their names, true renders first: a page for many methods.

    `prompt` is an id; without it, and without a seed, the first that all methods have. Raises NothingError if there is
    none.
    """
    from PIL import Image

    shown, (key,) = _shown(rows, 1, prompt, seed)
    methods = [row for row in shown if not row.is_reference]
    run = methods[0].run
    cell = cell_of(run.width, run.height, SHEET)
    names = max(len(wrap(drawable(row.label), cell[0] - 2, NAME, LINES)) for row in shown)
    across, down = cell[0] + GAP, cell[1] + names * height(NAME) + GAP
    columns = min(len(shown), max(1, round(ACROSS * SHEET / cell[0])))
    width = columns * across
    about = [", ".join([*_facts(methods[0]), f"seed {key[1]}"]), drawable(methods[0].images[key].prompt or key[0])]
    lines = [len(wrap(text, width - 8, PROMPT, 2)) for text in about]
    head = 8 + sum(lines) * height(PROMPT)
    foot = head + -(-len(shown) // columns) * down
    page = Image.new("RGB", (width, foot + below(crop, width)), "white")
    for k, text in enumerate(about):
        write(page, (4, 4 + k * lines[0] * height(PROMPT)), text, width - 8, PROMPT, 2)
    pixels = [enough(_read(row, key), crop.side) for row in shown]
    place = crop.place([image for image, row in zip(pixels, shown, strict=True) if not row.is_reference])
    for k, (row, image) in enumerate(zip(shown, pixels, strict=True)):
        corner = (k % columns * across, head + k // columns * down)
        page.paste(with_inset(image, cell, place, crop.side), corner)
        write(page, (corner[0] + 2, corner[1] + cell[1] + 1), row.label, cell[0] - 2, NAME, names)
    write(page, (4, foot), crop.sentence, width - 8, PROMPT, LINES, fill="#666666")
    return page


def _facts(row: Row) -> list[str]:
    facts = [row.run.model, f"{row.run.width}×{row.run.height} px"]
    return facts + ([f"{row.scale:.3g}× training"] if row.scale else [])


def cell_of(width: int, height: int, side: int = CELL) -> tuple[int, int]:
    """Return the size of a cell for images of this size: their shape, and the area of a square of `side`."""
    return round(side * (width / height) ** 0.5), round(side * (height / width) ** 0.5)


def _shown(
    rows: list[Row], columns: int, prompt: str | None = None, seed: int | None = None
) -> tuple[list[Row], list[Key]]:
    """Return the rows whose images are there, true renders first, and the first (prompt id, seed) they all have."""
    methods = [row for row in rows if not row.is_reference]
    common = set.intersection(*(set(row.images) for row in methods)) if methods else set()
    keys = [key for key in common if prompt in (None, key[0]) and seed in (None, key[1])]
    keys = sorted(keys, key=str)[:columns]
    if not keys:
        raise NothingError(f"the methods have no image{' of this prompt and seed' if common else ''} in common")
    missing = [row for row in methods if not all(row.images[key].path.is_file() for key in keys)]
    if missing:
        raise NothingError(f"images of {missing[0].label} are missing; only their records exist")
    renders = [row for row in rows if row.is_reference and set(keys) <= set(row.images)]
    return [row for row in renders if all(row.images[key].path.is_file() for key in keys)][:1] + methods, keys


def _read(row: Row, key: Key) -> Image.Image:
    from PIL import Image

    try:
        return Image.fromarray(images.read(row.images[key].path))
    except images.DamagedError as error:
        raise NothingError(f"{row.images[key].path} {error}") from error


def enough(image: Image.Image, zoom: float) -> Image.Image:
    """Return an image with as many pixels as its cell and its crop show: the images of a prompt are held together."""
    most = min(image.size) // max(CELL, round(COVERED * CELL / zoom))
    return image.reduce(most) if most > 1 else image


def with_inset(image: Image.Image, cell: tuple[int, int], place: Place, zoom: float) -> Image.Image:
    """Return an image resized to a cell, with the crop outlined, and magnified in a corner.

    `zoom` is the side of the crop as a fraction of the shorter side of the image.
    """
    from PIL import Image, ImageDraw

    width, height = image.size
    side = max(8, round(zoom * min(width, height)))
    left, top, *ends = place.box(image.size, side)
    shown = image.resize(cell, Image.Resampling.LANCZOS)
    inset = min(round(COVERED * (cell[0] * cell[1]) ** 0.5), *cell)
    sharp = Image.Resampling.NEAREST if side * 2 <= inset else Image.Resampling.LANCZOS
    crop = image.crop((left, top, *ends)).resize((inset, inset), sharp)
    draw = ImageDraw.Draw(shown)
    fx, fy = cell[0] / width, cell[1] / height
    box = (left * fx, top * fy, (left + side) * fx, (top + side) * fy)
    draw.rectangle(box, outline="black")
    draw.rectangle((box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1), outline="white")
    right, lower = place.corner
    corner = (cell[0] - inset if right else 0, cell[1] - inset if lower else 0)
    frame = (corner[0] - 2 * right, corner[1] - 2 * lower)
    draw.rectangle((*frame, frame[0] + inset + 1, frame[1] + inset + 1), fill="white")
    shown.paste(crop, corner)
    return shown
