"""Find a font for each character: DejaVu Sans, which matplotlib brings, then the fonts of the system.

Fonts are looked up by the characters they contain, so that any installed font counts. What no font contains is written
as its name in brackets; no boxes are drawn.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

JOINER = "\u200d"
HELD = ("Cc", "Zl", "Zp")
"""Categories that become a space."""
TAGS = range(0xE0020, 0xE0080)
FLAGS = range(0x1F1E6, 0x1F200)
SKIN = range(0x1F3FB, 0x1F400)
SPECIAL = re.compile("bold|italic|oblique|light|thin|black|medium|condensed|mono|serif|display|extra|heavy|semi", re.I)
BOXES = re.compile("lastresort|adobeblank|notdef", re.I)
"""Fonts that have a glyph for every character, which is a box or nothing."""
STRIKES = (109, 136, 160, 128, 96, 64)
"""Sizes in pixels that fonts of colour bitmaps come in."""


def clusters(text: str) -> list[str]:
    """Split a text into what is drawn as one: a character with its marks, joined emoji, flags. Runs of spaces are one.

    Characters that direct the order of a text (U+202E and others) are left out, so that they can't turn it over.
    """
    found: list[str] = []
    for c in text:
        kind, code = unicodedata.category(c), ord(c)
        if kind in HELD or c.isspace():
            if found and found[-1] != " ":
                found.append(" ")
            continue
        if kind == "Cf" and c not in (JOINER, "\u200c") and code not in TAGS:
            continue
        last = found[-1] if found else ""
        flags = code in FLAGS and len(last) == 1 and ord(last) in FLAGS
        joins = kind in ("Mn", "Me", "Mc", "Cf") or code in SKIN or last.endswith(JOINER) or flags
        if joins and last not in ("", " "):
            found[-1] += c
        else:
            found.append(c)
    return found[:-1] if found and found[-1] == " " else found


def named(items: list[str]) -> str:
    """Return how clusters without a glyph are written: an emoji by its name, others by script and first code point.

    `[fire]`, `[CJK U+4E00 +34]`: a character of this code point, and 34 more.
    """
    words = []
    for is_sign, run in groupby(items, key=lambda item: unicodedata.category(item[0]) in ("So", "Sk")):
        group = list(run)
        if is_sign:
            words += [_sign(item) for item in group]
            continue
        letters = sum(item != " " for item in group)
        more = f" +{letters - 1}" if letters > 1 else ""
        script = unicodedata.name(group[0][0], "").split(" ")[0].capitalize()
        script = "CJK" if script == "Cjk" else script
        words.append(f"{script} U+{ord(group[0][0]):04X}{more}".strip())
    return "".join(f"[{word}]" for word in words)


def _sign(item: str) -> str:
    if ord(item[0]) in FLAGS:
        return "flag " + "".join(chr(ord("A") + ord(c) - FLAGS.start) for c in item)
    return "+".join(unicodedata.name(c, f"U+{ord(c):04X}").lower() for c in item if not is_silent(c))


def is_silent(c: str) -> bool:
    """Return whether a character only changes the one before: a mark, a joiner, a variation selector."""
    return unicodedata.category(c) in ("Mn", "Me", "Cf")


@cache
def font_of(cluster: str, colour: bool = True) -> str | None:
    """Return the file of the first font that draws a cluster, None if there is none.

    `colour` says whether fonts of colour bitmaps count; matplotlib can't use them.
    """
    needed = {ord(c) for c in cluster if not is_silent(c)} or {ord(c) for c in cluster}
    if needed <= coverage(first()):
        return first()
    return next((path for path in others() if needed <= coverage(path) and _draws(path, cluster, colour)), None)


@cache
def first() -> str:
    """Return the file of DejaVu Sans."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@cache
def others() -> list[str]:
    """Return the font files of the system, plain faces and Noto before others."""
    from matplotlib.font_manager import findSystemFonts

    def place(path: str) -> tuple[bool, bool, str, str]:
        name = Path(path).stem
        return bool(SPECIAL.search(name)), "noto" not in name.lower(), name, path

    return sorted((path for path in findSystemFonts() if not BOXES.search(Path(path).name)), key=place)


@cache
def coverage(path: str) -> frozenset[int]:
    """Return the code points of a font; none if it can't be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (RuntimeError, OSError, ValueError):
        return frozenset()


def _draws(path: str, cluster: str, colour: bool) -> bool:
    """Return whether the font leaves ink: some contain characters in a format that FreeType can't draw."""
    try:
        font, scale = face(path, 20)
    except OSError:
        return False
    return (colour or scale == 1) and (cluster.isspace() or font.getmask(cluster).getbbox() is not None)


@cache
def face(path: str, size: int) -> tuple[FreeTypeFont, float]:
    """Return a font at a size in pixels, and the factor that its drawings need: not 1 for fonts of bitmaps."""
    from PIL import ImageFont

    for strike in (size, *STRIKES):
        try:
            return ImageFont.truetype(path, strike), size / strike
        except OSError as error:
            if "pixel size" not in str(error):
                raise
    raise OSError(f"{path} has no usable size")
