"""Text of any script in figures. The characters used are those that DejaVu Sans has, or that no font has."""

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, features

from eval.figures import bidi, fonts, text

MATH = r"$x^2$ \alpha \frac{1}{2} a_b $open"


@pytest.fixture
def only_dejavu(monkeypatch):
    """A machine with no other fonts."""
    fonts.font_of.cache_clear()
    monkeypatch.setattr(fonts, "others", lambda: [])
    yield
    fonts.font_of.cache_clear()


def ink(image) -> np.ndarray:
    """Columns and rows that are not white."""
    return np.asarray(image.convert("L")) < 250


def sheet(*words, width=220, size=12, lines=4) -> Image.Image:
    image = Image.new("RGB", (width + 40, lines * text.height(size) + 40), "white")
    text.write(image, (20, 20), *words, width, size, lines)
    return image


@pytest.mark.parametrize(
    "line, base, shown",
    [
        ("abc אבג def", 0, "abc גבא def"),
        ("אבג 123 דה", 0, "הד 123 גבא"),
        ("abc 123 אב 45", 0, "abc 123 45 בא"),
        ("אב abc גד", 1, "דג abc בא"),
        ("قط 12 كلب", 1, "بلك 12 طق"),
        ("abc.", 1, ".abc"),
        ("אב 5% ג", 1, "ג 5% בא"),
        ("אב 1,5-2 ג", 1, "ג 1,5-2 בא"),
        ("", 0, ""),
    ],
)
def test_characters_are_shown_in_the_order_of_unicode(line, base, shown):
    assert "".join(bidi.in_order(list(zip(bidi.levels(line, base), line, strict=True)))) == shown


def test_the_first_letter_with_a_direction_decides():
    assert [bidi.base_level(words) for words in ("12 אב", "a אב", "… قط a", "12", "")] == [1, 0, 1, 0, 0]


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow has no Raqm here")
def test_pieces_look_as_a_line_that_raqm_draws_whole():
    rng = random.Random(0)
    font, _ = fonts.face(fonts.first(), 28)
    for _ in range(40):
        line = " ".join("".join(rng.choice("ab אבج د12") for _ in range(12)).split()) or "a"
        base = bidi.base_level(line)
        whole, ours = (Image.new("L", (500, 60), "white") for _ in range(2))
        way = "rtl" if base else "ltr"
        ImageDraw.Draw(whole).text((10, 38), line, fill="black", font=font, anchor="ls", direction=way)
        width = round(text.measure(line, 28)) + 1
        assert abs(width - font.getlength(line)) < 2
        text.write(ours, (10 - bool(base), 10), line, width, 28)
        one, other = (np.asarray(image.reduce(4), float) for image in (whole, ours))
        assert np.abs(one - other).sum() < 0.2 * (255 - one).sum(), line


def test_what_is_drawn_as_one_stays_together():
    assert fonts.clusters("e\u0301a") == ["e\u0301", "a"]
    assert fonts.clusters("👩‍💻👍🏽❤️🇯🇵🇫🇷") == ["👩‍💻", "👍🏽", "❤️", "🇯🇵", "🇫🇷"]
    assert fonts.clusters(" a\n\tb\u202e\u2066c\x00 ") == ["a", " ", "b", "c"]
    assert "".join(fonts.clusters("a\u2028b")) == "a b"


def test_what_no_font_has_is_named(only_dejavu):
    assert text.drawable("a cat 🔥") == "a cat [fire]"
    assert text.drawable("👩‍💻 🇯🇵") == "[woman+personal computer] [flag JP]"
    assert text.drawable("一只红色的猫") == "[CJK U+4E00 +5]"
    assert text.drawable("एक लाल, x") == "[Devanagari U+090F +3], x"
    assert text.drawable("\ud800") == "[U+D800]"
    assert text.drawable("قط חתול Ж ∑") == "قط חתול Ж ∑"
    assert "[CJK U+4E00]" in text.unwritten(["一b"]) and "fonts-noto-cjk" in text.unwritten(["一b"])
    assert text.unwritten(["plain"]) == "" and text.fonts_of(["a"]) == ["DejaVuSans.ttf"]
    assert "" in text.fonts_of(["一"])


def test_a_font_of_the_system_is_used_where_the_first_has_no_glyph(monkeypatch):
    """The second font is DejaVu Sans itself, and the first one claims to have digits only."""
    real, digits = fonts.first(), frozenset(map(ord, "0123456789… "))
    other = str(fonts.Path(real).with_name("DejaVuSerif.ttf"))
    everything = fonts.coverage(real)
    monkeypatch.setattr(fonts, "others", lambda: [other])
    monkeypatch.setattr(fonts, "coverage", lambda path: digits if path == real else everything)
    fonts.font_of.cache_clear()
    try:
        pieces = text.pieces("12 ab", 0)
        assert [(piece.text, fonts.Path(piece.path).name) for piece in pieces] == [
            ("12 ", "DejaVuSans.ttf"),
            ("ab", "DejaVuSerif.ttf"),
        ]
        assert text.families(["12 ab"]) == ["DejaVu Sans", "DejaVu Serif"]
    finally:
        fonts.font_of.cache_clear()


@pytest.mark.parametrize(
    "words",
    [
        "word " * 400,
        "x" * 2000,
        "قطة حمراء تجلس " * 40,
        "חתול" * 300,
        "一" * 2000,
        "a\n" * 50,
        MATH * 20,
        "🔥" * 300,
        "i",
    ],
)
def test_text_stays_in_its_box(words):
    image = sheet(words)
    found = ink(image)
    assert found.any()
    found[18 : 20 + 4 * text.height(12) + 4, 18:242] = False
    assert not found.any()


def test_what_is_cut_ends_with_an_ellipsis():
    rows = text.wrap("word " * 400, 220, 12, 3)
    assert len(rows) == 3 and rows[-1].endswith("…") and not rows[0].endswith("…")
    assert text.wrap("short", 220, 12, 3) == ["short"] and text.wrap("", 220, 12, 3) == [""]
    labels = text.wrap("upsample (kind=model, weights=b0cc0f83)", 110, 14, 8)
    assert "".join(labels).replace(" ", "") == "upsample(kind=model,weights=b0cc0f83)" and len(labels) > 2


def test_right_to_left_text_is_aligned_to_the_right():
    left, right = ink(sheet("cat")).any(axis=0).nonzero()[0], ink(sheet("קט")).any(axis=0).nonzero()[0]
    assert left.min() < 24 and right.max() > 234


def test_matplotlib_parses_no_mathematics(only_dejavu):
    from matplotlib import cbook
    from matplotlib.text import Text

    plain = text.plain(MATH + "🔥 一")
    assert plain.endswith("[fire] [CJK U+4E00]")
    assert Text(0, 0, plain)._preprocess_math(plain) == (MATH + "[fire] [CJK U+4E00]", False)
    assert not cbook.is_math_text(text.paragraph(MATH, 6, 7, 3))
    assert max(map(len, text.paragraph("word " * 400, 6, 7, 3).split("\n"))) < 200


def test_without_raqm_right_to_left_is_turned_over(monkeypatch):
    monkeypatch.setattr(text, "_has_layout", lambda: False)
    assert text._for_pillow(text.Piece("א(ב", fonts.first(), 1)) == ("ב)א", {})
    assert text._for_pillow(text.Piece(" אב  ", fonts.first(), 1)) == ("  בא ", {})
    assert text._for_pillow(text.Piece("ab", fonts.first(), 0)) == ("ab", {})
