"""Write text of any script into images and matplotlib figures: `docs/report.md` says which fonts are used."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import bidi, fonts

if TYPE_CHECKING:
    from PIL.Image import Image

CUT = "…"
INSTALL = "install one (Debian: fonts-noto-core fonts-noto-cjk fonts-noto-color-emoji) and draw again"
BREAKS = "_=,/-:"
"""Characters of labels after which a line may end, as after a space."""


class Piece(NamedTuple):
    """Characters of one font and direction."""

    text: str
    path: str
    level: int


def drawable(text: str, colour: bool = True) -> str:
    """Return a text as it is written: what no font can draw becomes a name in brackets, see `fonts.named`."""
    items = fonts.clusters(text)
    known = [fonts.font_of(item, colour) is not None for item in items]
    for k in range(1, len(items) - 1):  # words of one script go into one pair of brackets
        known[k] &= not (
            items[k] == " " and not known[k - 1] and not known[k + 1] and _alike(items[k - 1], items[k + 1])
        )
    found = ""
    for is_known, run in groupby(zip(known, items, strict=True), key=lambda pair: pair[0]):
        group = [item for _, item in run]
        found += "".join(group) if is_known else fonts.named(group)
    return found


def _alike(one: str, other: str) -> bool:
    return unicodedata.category(one[0])[0] == unicodedata.category(other[0])[0] == "L"


def write(
    image: Image, place: tuple[int, int], text: str, width: int, size: int, lines: int = 1, fill: str = "black"
) -> int:
    """Write a text with its upper left corner at `place`, at most `lines` lines of `width` pixels; returns the lines.

    Text that starts with a right-to-left script is aligned to the right. What is cut ends with "…".
    """
    from PIL import ImageDraw

    draw = ImageDraw.Draw(image)
    text = drawable(text)
    base = bidi.base_level(text)
    rows = wrap(text, width, size, lines)
    for k, row in enumerate(rows):
        x = place[0] + (width - measure(row, size) if base else 0)
        y = place[1] + k * height(size) + size  # of the base line
        for piece in pieces(row, base):
            x += _draw(image, draw, (x, y), piece, size, fill)
    return len(rows)


def height(size: int) -> int:
    """Return the distance of lines of a size in pixels."""
    return round(size * 1.25)


def _draw(image, draw, place: tuple[float, float], piece: Piece, size: int, fill: str) -> float:
    """Draw a piece from its base line, and return how far it reaches."""
    from PIL import Image, ImageDraw

    font, scale = fonts.face(piece.path, size)
    text, options = _for_pillow(piece)
    if scale == 1:
        draw.text(place, text, fill=fill, font=font, anchor="ls", **options)
        return _reach(piece, size)
    left, top, right, bottom = font.getbbox(text, anchor="ls", **options)
    large = Image.new("RGBA", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(large).text((-left, -top), text, font=font, anchor="ls", embedded_color=True, **options)
    small = large.resize((max(1, round(large.width * scale)), max(1, round(large.height * scale))))
    image.paste(small, (round(place[0] + left * scale), round(place[1] + top * scale)), small)
    return _reach(piece, size)


@cache
def _has_layout() -> bool:
    from PIL import features

    return bool(features.check("raqm"))


def _for_pillow(piece: Piece) -> tuple[str, dict[str, str]]:
    """Return the text and the options of Pillow's functions. Without Raqm, right to left is a reversed text."""
    if _has_layout():
        return piece.text, {"direction": "rtl" if piece.level % 2 else "ltr"}
    if not piece.level % 2:
        return piece.text, {}
    before = len(piece.text) - len(piece.text.lstrip(" "))
    after = len(piece.text) - len(piece.text.rstrip(" "))
    turned = "".join(MIRRORED.get(item, item) for item in reversed(fonts.clusters(piece.text)))
    return (" " * after + turned + " " * before if turned else piece.text), {}


MIRRORED = {a: b for pair in ("()", "[]", "{}", "<>", "«»") for a, b in (pair, pair[::-1])}


@cache
def _reach(piece: Piece, size: int) -> float:
    font, scale = fonts.face(piece.path, size)
    text, options = _for_pillow(piece)
    return font.getlength(text, **options) * scale


def pieces(text: str, base: int) -> list[Piece]:
    """Split a line of `drawable` text into pieces, in the order in which they are drawn from the left."""
    found: list[Piece] = []
    levels, at = bidi.levels(text, base), 0
    for item in _items(text):
        level, path = levels[at], fonts.font_of(item) or fonts.first()
        at += len(item)
        last = found[-1] if found else None
        if last and last.level == level and (last.path == path or item == " " and fonts.face(last.path, 20)[1] == 1):
            found[-1] = last._replace(text=last.text + item)
        else:
            found.append(Piece(item, path, level))
    return bidi.in_order([(piece.level, piece) for piece in found])


def _items(text: str) -> list[str]:
    """Return the clusters of a line of `drawable` text, with its last space."""
    return fonts.clusters(text) + [" "] * text.endswith(" ")


def measure(text: str, size: int) -> float:
    """Return the width of a line in pixels."""
    return sum(_reach(piece, size) for piece in pieces(text, bidi.base_level(text)))


def wrap(text: str, width: int, size: int, lines: int) -> list[str]:
    """Break a text into at most `lines` lines of `width` pixels; "…" ends what was cut. Long words are broken too."""
    rows, row = [], ""
    for atom in _atoms(text):
        for part in [atom] if measure(atom.strip(), size) <= width else fonts.clusters(atom):
            if row and measure((row + part).rstrip(), size) > width:
                rows.append(row.rstrip())
                row = ""
                if len(rows) == lines:
                    return [*rows[:-1], _cut(rows[-1], width, size)]
            row += part
    return [*rows, row.rstrip()] if row.strip() or not rows else rows


def _cut(row: str, width: int, size: int) -> str:
    items = fonts.clusters(row)
    while items and measure("".join(items) + CUT, size) > width:
        items.pop()
    return "".join(items).rstrip() + CUT


def _atoms(text: str) -> list[str]:
    """Split a text into parts between which a line may end: words with the space after them, and wide characters."""
    atoms: list[str] = []
    is_open = False
    for item in fonts.clusters(text):
        wide = unicodedata.east_asian_width(item[0]) in "WF"
        closes = unicodedata.category(item[0]) in ("Po", "Pe", "Pf")  # a line doesn't start with one
        if atoms and (is_open and not wide or closes or item == " "):
            atoms[-1] += item
        else:
            atoms.append(item)
        is_open = item != " " and not wide and item[-1] not in BREAKS
    return atoms


def plain(text: str) -> str:
    """Return a text for matplotlib: no mathematics, and no character that its fonts lack."""
    return drawable(text, colour=False).replace("$", r"\$")


def paragraph(text: str, inches: float, points: float, lines: int) -> str:
    """Return a text for matplotlib, broken into lines of a width in inches at a font size in points."""
    pixels = 4 * points / 72  # measured at four times the size, since Pillow rounds glyphs to pixels
    rows = wrap(drawable(text, colour=False), round(inches * 72 * 4), round(pixels * 72), lines)
    return "\n".join(row.replace("$", r"\$") for row in rows)


def families(texts: Iterable[str]) -> list[str]:
    """Return the names of the fonts that texts need, for `font.family` of matplotlib, which is told of their files."""
    from matplotlib.font_manager import fontManager

    found = ["DejaVu Sans"]
    paths = {fonts.font_of(item, colour=False) for text in texts for item in fonts.clusters(text)}
    for path in sorted(path for path in paths if path and path != fonts.first()):
        if all(entry.fname != path for entry in fontManager.ttflist):
            fontManager.addfont(path)
        found.append(next(entry.name for entry in fontManager.ttflist if entry.fname == path))
    return found


def fonts_of(texts: Iterable[str]) -> list[str]:
    """Return the names of the font files that texts need; "" stands among them if a character has none."""
    return sorted({Path(fonts.font_of(c) or "").name for c in _characters(texts)})


def unwritten(texts: Iterable[str]) -> str:
    """Return a line on the characters of texts that no font has, "" if there are none."""
    missing = [c for c in _characters(texts) if fonts.font_of(c) is None]
    if not missing:
        return ""
    more = f" and {len(missing) - 1} more characters" if len(missing) > 1 else ""
    return f"no font here has {fonts.named(missing[:1])}{more}, so names stand for them; {INSTALL}"


def _characters(texts: Iterable[str]) -> list[str]:
    return sorted(c for c in set("".join(set(texts))) if fonts.clusters(c) and not fonts.is_silent(c))
