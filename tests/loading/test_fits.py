"""The recipes of docs/checkpoints.md are those of the memory plan, and their peaks are below the card."""

import importlib.util
import re
from pathlib import Path

import pytest

from sega.loading import memory
from sega.loading.fits import CARDS, fit
from sega.loading.known import published
from sega.run.request import read_request

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "checkpoints.md").read_text()


def recipes():
    """(GB of the card, words, GB written beside them) of each line of the page."""
    card = None
    for line in PAGE.partition("<!-- memory -->")[2].partition("<!-- end -->")[0].splitlines():
        if heading := re.fullmatch(r"# (\d+) GB", line):
            card = int(heading[1])
        elif command := re.fullmatch(r"python run.py (.*?) +# ([\d.]+) GB", line):
            yield card, command[1], float(command[2])


def test_the_page_is_that_of_the_script():
    spec = importlib.util.spec_from_file_location("memory_page", ROOT / "scripts" / "memory_page.py")
    memory_page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(memory_page)
    assert PAGE == memory_page.page(), "run python scripts/memory_page.py"
    assert [card for card in dict.fromkeys(card for card, *_ in recipes())] == list(CARDS)


@pytest.mark.parametrize(("card", "words", "peak"), list(recipes()))
def test_a_recipe_is_a_request_whose_peak_is_below_the_card(card, words, peak):
    (cell,) = read_request([*words.split(), "dry_run=true"]).cells
    estimate = memory.expected(cell, published(cell.model))
    plan = memory.choose(cell.model, estimate, "cuda", card * memory.GB)
    assert plan.mode == cell.model["memory"] and plan.fits
    assert estimate.needs(plan.mode) / 1e9 == pytest.approx(peak, abs=0.06) and peak < card
    assert estimate.text * memory.MARGIN < card * memory.GB  # the encoders run before, on the same card
    for mode in memory.MODES[1 : memory.MODES.index(plan.mode)]:  # no faster placement would fit
        assert estimate.needs(mode) > card * memory.GB


def test_what_fits_nowhere_is_not_said_to_fit():
    plan = fit("qwen", "4x", 4).plan
    assert plan.mode == "sequential" and not plan.fits
