"""The README holds what the committed records say, its images are there, and its first lines run as they stand."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def front_page():
    spec = importlib.util.spec_from_file_location("front_page", ROOT / "scripts" / "front_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_number_of_the_readme_comes_from_the_records(front_page):
    assert front_page.filled(README) == README, "run python scripts/front_page.py parts=numbers"
    assert set(front_page.blocks.names(README, "numbers")) == set(front_page.BLOCKS)


def test_a_number_changed_by_hand_is_noticed(front_page):
    digit = re.search(r"(?<=\| )\d\.\d\d ±", README)
    changed = README[: digit.start()] + "9.99" + README[digit.end() - 2 :]
    assert front_page.filled(changed) == README != changed


def test_a_block_that_nothing_fills_is_refused(front_page):
    from sega import RequestError

    with pytest.raises(RequestError, match="names the block other"):
        front_page.filled("<!-- numbers:other -->\n<!-- end -->")


@pytest.mark.parametrize("name", re.findall(r"\]\(((?:docs|results|eval)[^)#]*)\)", README))
def test_every_file_the_readme_links_to_is_there(name):
    assert (ROOT / name).exists()


def test_the_images_are_images(front_page):
    """Not blank, and the row of the plain model differs from each of the others."""
    sheet = np.asarray(Image.open(front_page.IMAGES / "front.jpg").convert("RGB"), float)
    rows = np.array_split(sheet[26 : 26 + (len(sheet) - 26) // 3 * 3], 3)
    assert sheet.shape[1] > 1000 and all(np.abs(rows[0] - row).mean() > 10 for row in rows[1:])
    for method in front_page.METHODS:
        assert f"docs/images/method-{method}.jpg" in README
        assert np.asarray(Image.open(front_page.IMAGES / f"method-{method}.jpg")).std() > 10


def test_the_three_python_lines_make_an_image(tmp_path, monkeypatch):
    lines = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len([line for line in lines.splitlines() if line and not line.startswith(("from", "prompt"))]) == 2
    monkeypatch.chdir(tmp_path)
    exec(compile(lines, "README.md", "exec"), {})
    assert Image.open(tmp_path / "sega.png").size == (384, 384)


def test_the_first_command_asks_for_one_image():
    from sega.run.request import read_request

    words = re.search(r"^python run\.py (.*?)\s*#", README, re.MULTILINE)[1].split()
    (cell,) = read_request(words).cells
    assert len(cell.images) == 1 and cell.request.size == (384, 384)
