"""The gallery as a folder: tiles, data, and second calls."""

import shutil

import numpy as np
import pytest
from helpers.gallery_store import EVIL, build, content, make_store
from PIL import Image


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    make_store(folder / "runs")
    assert build(folder) == 0
    return folder


@pytest.fixture(scope="module")
def telling(tmp_path_factory):
    """A method that gains most on the second prompt, one that gains less, and one that loses."""
    folder = tmp_path_factory.mktemp("opening")
    methods = {"vanilla": (25.0, 26.0), "yarn": (25.0, 26.0), "sega": (26.0, 31.0), "pi": (9.0, 26.0)}
    make_store(folder / "runs", sizes=((64, 48),), methods=methods)
    assert build(folder) == 0
    return folder


def test_data_holds_what_is_shown(place):
    found = content(place)
    assert [run["label"] for run in found["runs"]] == ["vanilla", "yarn"] * 2
    assert found["runs"][0]["settings"]["steps"] == "28" and found["runs"][0]["size"] == [64, 48]
    assert [p["text"] for p in found["prompts"]] == ["a lighthouse", EVIL]
    assert [score["name"] for score in found["scores"]] == ["clip_score", "seconds"]
    assert found["images"][0]["values"] == [25.0, 2.5]
    assert [p["levels"] for p in found["images"]] == [1] * 4 + [3] * 4
    assert "quality 90" in found["note"]
    text = (place / "out" / "data.js").read_text()
    assert "\u2028" not in text and "<" not in text


def test_scores_and_win_rates_stand_beside_the_methods(telling):
    found = {run["label"]: run for run in content(telling)["runs"]}
    assert found["sega"]["scores"]["clip_score"] == [25.5, 24.0, 27.0]
    assert found["sega"]["base"] == "vanilla" and "base" not in found["vanilla"]
    assert found["sega"]["wins"]["clip_score"] == [1.0, 1.0, 1.0]
    assert found["yarn"]["wins"]["clip_score"] == [0.5, 0.5, 0.5]  # all are ties
    assert found["pi"]["wins"]["clip_score"] == [0.25, 0.0, 0.5]  # a loss and a tie
    assert "seconds" not in found["sega"]["wins"] and found["sega"]["n"] == 2


def test_small_images_are_exact_and_large_ones_are_cut(place):
    small, large = content(place)["images"][0], content(place)["images"][-1]
    tiles = place / "out" / "tiles"
    original = np.asarray(Image.open(place / "runs/flux/vanilla/64x48/0123456789ab/0-0.png"))
    assert np.array_equal(np.asarray(Image.open(tiles / small["id"] / "0-0-0.webp").convert("RGB")), original)
    sizes = {path.stem: Image.open(path).size for path in (tiles / large["id"]).iterdir()}
    assert len(sizes) == 6 + 2 + 1 and sizes["0-2-1"] == (52, 476) and sizes["1-1-0"] == (26, 750)
    assert sizes["2-0-0"] == (525, 375)
    assert max(Image.open(place / "out" / "thumbs" / f"{large['id']}.webp").size) == 256


def test_a_second_call_does_nothing_and_a_gone_image_goes(place, tmp_path, capsys):
    shutil.copytree(place, tmp_path / "copy")
    folder = tmp_path / "copy"
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*")}
    assert build(folder) == 0
    assert "up to date" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*")} == before
    shutil.rmtree(folder / "runs" / "flux" / "yarn")
    assert build(folder) == 0
    assert len(list((folder / "out" / "tiles").iterdir())) == len(list((folder / "out" / "thumbs").iterdir())) == 4


def test_a_damaged_image_is_named(tmp_path, capsys):
    make_store(tmp_path / "runs", sizes=((64, 48),))
    (tmp_path / "runs/flux/yarn/64x48/0123456789ab/0-0.png").write_bytes(b"broken")
    assert build(tmp_path) == 0
    assert "yarn/64x48/0123456789ab/0-0.png can't be decoded" in capsys.readouterr().err
    assert len(content(tmp_path)["images"]) == 3


def test_wrong_requests(place, capsys):
    assert build(place, "wokers=3") == 2
    assert "did you mean 'workers'" in capsys.readouterr().err
    assert build(place, "workers=0") == 2
    assert build(place, "form=fle") == 2
    assert "did you mean 'file'" in capsys.readouterr().err
    assert build(place, "paper=javascript:alert(1)") == 2
    assert "paper=javascript:alert(1) must be an address" in capsys.readouterr().err
    assert build(place, "form=file", "limit=none") == 2


def test_it_opens_on_the_best_against_the_plain_model(telling, place):
    assert content(telling)["opening"] == {"flux 64x48": {"methods": ["vanilla", "sega"], "prompt": 1}}
    assert content(place)["opening"] == {}  # no metric tells them apart
    assert content(place)["sizes"] == {"flux": "2100x1500"}


def test_it_opens_on_the_size_with_most_images(tmp_path):
    make_store(tmp_path / "runs", sizes=((64, 48),), methods={"vanilla": (25.0, 26.0)})
    make_store(tmp_path / "runs", sizes=((96, 48),), prompts=("a lighthouse",), methods={"vanilla": (25.0,)})
    assert build(tmp_path) == 0 and content(tmp_path)["sizes"] == {"flux": "64x48"}


def test_the_page_names_files_that_exist():
    from eval.gallery.files import FILES, SCRIPTS, WEB

    page = (WEB / "index.html").read_text()
    assert {path.name for path in WEB.iterdir() if not path.name.startswith("vote")} == set(FILES)
    assert all(f'<script src="{name}"></script>' in page for name in SCRIPTS)
    assert "innerHTML" not in "".join((WEB / name).read_text() for name in FILES)
