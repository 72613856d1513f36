"""The grid and the sheet: images of methods side by side."""

import numpy as np
import pytest
from eval_store import make_run
from PIL import Image

from eval.figures import grid as drawing
from eval.figures.crops import Crop
from eval.output.manifest import NothingError
from eval.records.rows import Row, label
from eval.records.runs import load_run
from sega.methods.registry import METHODS


def rows_of(store, methods, size=(96, 64), prompts=2) -> list[Row]:
    runs = [load_run(make_run(store, name, size, prompts, noise=k)) for k, name in enumerate(methods)]
    rows = [Row(run, "embedded", {"n": prompts, "metrics": {}, "damaged": [], "native": 48}) for run in runs]
    label(rows)
    return rows


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[Row]:
    return rows_of(tmp_path_factory.mktemp("sheet"), METHODS)


def difference(page: Image.Image, corner, cell, image: Image.Image) -> float:
    """Share of pixels of a cell that are not those of the image; the crop and its frames may differ."""
    found = np.asarray(page.crop((*corner, corner[0] + cell[0], corner[1] + cell[1])), int)
    expected = np.asarray(image.convert("RGB").resize(cell, Image.Resampling.LANCZOS), int)
    return float((np.abs(found - expected).max(axis=-1) > 0).mean())


def test_the_sheet_has_a_cell_for_every_method(rows):
    page = drawing.sheet(rows, Crop())
    cell = drawing.cell_of(96, 64, drawing.SHEET)
    across = cell[0] + drawing.GAP
    columns = page.width // across
    assert columns == 5 and columns * across == page.width
    lines = [k for k in range(page.height) if (np.asarray(page)[k] < 250).any()]
    assert lines[0] < 12 and page.height - lines[-1] < 16
    key = sorted(rows[0].images)[0]
    top = next(k for k in range(page.height) if (np.asarray(page)[k, : cell[0]] < 250).all(axis=-1).mean() > 0.9)
    for k, row in enumerate(rows[:columns]):
        assert difference(page, (k * across, top), cell, Image.open(row.images[key].path)) < 0.35, row.label
    assert difference(page, (0, top), cell, Image.open(rows[1].images[key].path)) > 0.9


def test_a_prompt_and_seed_may_be_chosen(rows):
    first, second = (drawing.sheet(rows, Crop(), prompt) for prompt in ("0000", "0001"))
    assert np.asarray(first).shape != np.asarray(second).shape or (np.asarray(first) != np.asarray(second)).any()
    assert (np.asarray(drawing.sheet(rows, Crop())) == np.asarray(first)).all()
    with pytest.raises(NothingError, match="no image of this prompt and seed in common"):
        drawing.sheet(rows, Crop(), seed=9)


def test_a_column_of_the_grid_has_one_place(rows):
    """The outlines of the crops are in the same pixels of every row."""
    few = rows[:3]
    page = np.asarray(drawing.grid(few, 2, Crop("fixed", 0.4, (0.3, 0.5))))
    cell = drawing.cell_of(96, 64)
    head = page.shape[0] - drawing.below(Crop("fixed", 0.4), page.shape[1]) - 3 * (cell[1] + drawing.GAP)
    size = round(cell[1] * 0.4)
    top, left = round(cell[1] * 0.5 - size / 2), round(cell[0] * 0.3 - size / 2)
    for r in range(3):
        row = page[head + r * (cell[1] + drawing.GAP) + top : head + r * (cell[1] + drawing.GAP) + top + size]
        line = row[size // 2 - 8 : size // 2 + 8, drawing.MARGIN + left - 3 : drawing.MARGIN + left + 4]
        assert (line == 0).all(axis=-1).any(axis=1).all()


def test_large_images_are_reduced_to_what_is_shown():
    image = Image.fromarray(np.zeros((4096, 4096, 3), np.uint8))
    assert drawing.enough(image, 0.2).size == (512, 512)
    assert drawing.enough(image, 0.02).size == (4096, 4096)
    small = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    assert drawing.enough(small, 0.2) is small


def test_names_of_any_length_stay_in_their_cells(tmp_path):
    rows = rows_of(tmp_path, ("vanilla", "sega"), (64, 64), 1)
    rows[1].label = "sega (" + "averylongparameter=value, " * 9 + ")"
    page = np.asarray(drawing.sheet(rows, Crop()))
    assert (page[50:-70, 160:166] > 250).all()  # the gap between the two
    page = np.asarray(drawing.grid(rows, 1, Crop()))
    assert (page[90:-70, drawing.MARGIN - 4 : drawing.MARGIN] > 250).all()
