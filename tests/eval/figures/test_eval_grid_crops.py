"""Where the magnified crop of a grid is."""

import numpy as np
import pytest
from PIL import Image

from eval.figures.crops import SIDE, Crop
from eval.figures.grid import cell_of
from sega.errors import RequestError

RNG = np.random.default_rng(0)
NOISE = RNG.integers(100, 156, (200, 300, 3), np.uint8)


def images(*changes) -> list[Image.Image]:
    """Images of 300x200, each with one square (top, left, side, value)."""
    found = []
    for top, left, side, value in changes:
        pixels = NOISE.copy()
        pixels[top : top + side, left : left + side] = value
        found.append(Image.fromarray(pixels))
    return found


def inside(place, top: int, left: int, side: int) -> bool:
    x, y = place.centre[0] * 300, place.centre[1] * 200
    return left <= x <= left + side and top <= y <= top + side


def test_a_crop_is_where_the_methods_differ_and_not_where_they_have_detail():
    same = (20, 200, 40, 0)
    found = []
    for pixels in images((120, 60, 40, 0), (120, 60, 40, 255)):
        changed = np.asarray(pixels).copy()
        changed[same[0] : same[0] + 40 : 2, same[1] : same[1] + 40] = 0  # stripes, in both
        found.append(Image.fromarray(changed))
    assert inside(Crop("differ").place(found), 120, 60, 40)
    assert inside(Crop("detail").place(found), 20, 200, 40)


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_the_place_is_the_same_fraction_at_every_size(scale):
    large = [image.resize((300 * scale, 200 * scale), Image.Resampling.NEAREST) for image in images((60, 150, 40, 0))]
    large += [Image.fromarray(NOISE).resize((300 * scale, 200 * scale), Image.Resampling.NEAREST)]
    place = Crop("differ").place(large)
    assert abs(place.centre[0] - 170 / 300) < 0.02 and abs(place.centre[1] - 80 / 200) < 0.03


def test_equal_images_show_detail_and_flat_ones_the_middle():
    textured = images((0, 0, 1, 0))[0]
    pixels = np.full((200, 300, 3), 128, np.uint8)
    pixels[150:180:2, 20:60] = 255
    assert inside(Crop("differ").place([Image.fromarray(pixels)] * 3), 150, 20, 40)
    assert Crop("differ").place([textured]) == Crop("detail").place([textured])
    flat = Image.fromarray(np.full((200, 300, 3), 128, np.uint8))
    assert Crop("differ").place([flat, flat]).centre == (0.5, 0.5)


def test_the_magnification_hides_the_corner_in_which_methods_differ_least():
    """The outlined square is at the lower left; methods differ a little at the upper right and lower right."""
    one, other = images((150, 10, 40, 0), (150, 10, 40, 255))
    pixels = np.asarray(other).copy()
    pixels[0:30, 240:300] = 200
    pixels[170:200, 240:300] = 200
    place = Crop("differ").place([one, Image.fromarray(pixels)])
    assert inside(place, 150, 10, 40) and place.corner == (False, False)
    assert Crop("fixed", 0.2, (0.1, 0.1)).place([one, other]).centre == (0.1, 0.1)


def test_ties_go_to_the_first_from_the_top():
    one, other = (np.zeros((120, 120, 3), np.uint8) for _ in range(2))
    other[20:30, 20:30] = other[20:30, 80:90] = other[80:90, 20:30] = 255
    place = Crop("differ").place([Image.fromarray(one), Image.fromarray(other)])
    assert place.centre[0] < 0.5 and place.centre[1] < 0.5


@pytest.mark.parametrize(
    "word, crop",
    [
        ("differ", Crop("differ", SIDE)),
        ("detail,0.1", Crop("detail", 0.1)),
        ("0.5,0.6,0.25", Crop("fixed", 0.25, (0.5, 0.6))),
    ],
)
def test_crops_are_read(word, crop):
    assert Crop.read({"crop": word}, "crop") == crop
    assert ("the same place" in crop.sentence) == (crop.rule == "fixed") and f"{crop.side:g} of" in crop.sentence


@pytest.mark.parametrize(
    "word, message",
    [
        ("diffre", "crop=diffre is not differ, detail or x,y,side; did you mean 'differ'"),
        ("differ,2", "crop=2 must contain fractions"),
        ("detail,0", "the side of the crop must be larger than 0"),
        ("0.5,0.5", "crop=0.5,0.5 must be x,y,side"),
    ],
)
def test_wrong_crops_get_one_line(word, message):
    with pytest.raises(RequestError, match=message):
        Crop.read({"crop": word}, "crop")


def test_cells_keep_the_shape_and_the_area():
    assert cell_of(768, 768) == (224, 224)
    for width, height in ((512, 288), (288, 512), (4096, 1024)):
        cell = cell_of(width, height)
        assert abs(cell[0] / cell[1] - width / height) < 0.03 * width / height
        assert abs(cell[0] * cell[1] - 224 * 224) < 400
