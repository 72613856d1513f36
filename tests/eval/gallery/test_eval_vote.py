"""The blind comparison: its data, and the page in a headless browser, from the start to the saved file."""

import csv
import json
import re
import time

import numpy as np
import pytest
from browser import BROWSER, Browser
from PIL import Image

from eval.gallery.page import main
from sega.store.cell_folder import RunFolder

EVIL = '<img src=x onerror="document.title=1"></script><b>bold</b> \u2028 \u05d0'
METHODS = ("vanilla", "yarn", "sega")
LARGE = (2100, 1500)
browser = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium here (apt-get install chromium); the page was not tried"
)


def make_store(store, sizes=((64, 48), LARGE), methods=METHODS, prompts=("a lighthouse", EVIL)):
    """Runs of noise, scored by hand; the last prompt is hostile."""
    rng = np.random.default_rng(0)
    for method in methods:
        for size in sizes:
            cell = RunFolder(store, "flux", method, size, {"method": {"name": method}, "size": list(size)})
            cell.open({"config": {}})
            scores = []
            for number, prompt in enumerate(prompts):
                coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
                about = {"prompt_id": f"p{number}", "prompt": prompt, "seed": 3}
                image = coarse.resize(size, Image.Resampling.NEAREST)
                row = cell.add(f"p{number}-3.png", image, about)
                scores.append({**row, "protocol": "plain", "values": {"clip_score": 25.0}})
            block = {"n": 2, "damaged": [], "metrics": {}, "cost": {}, "networks": {}, "settings": {}}
            (cell.path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
            (cell.path / "scores.json").write_text(json.dumps({"schema": 1, "protocols": {"plain": block}}))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vote")
    make_store(folder / "runs")
    assert build(folder) == 0
    return folder


def build(folder):
    return main([f"store={folder / 'runs'}", f"cache={folder / 'cache'}", f"out={folder / 'out'}", "workers=1"])


def content(folder):
    text = (folder / "out" / "vote-data.js").read_text()
    return json.loads(text.removeprefix("const VOTE = ").removesuffix(";\n"))


def test_the_data_hold_every_image_once_and_no_path(place):
    found = content(place)
    assert sorted({run["label"] for run in found["runs"]}) == sorted(METHODS) and len(found["runs"]) == 6
    assert [(p["id"], p["seed"], p["text"]) for p in found["prompts"]] == [("p0", 3, "a lighthouse"), ("p1", 3, EVIL)]
    assert len(found["images"]) == 12 and {levels for *_, levels in found["images"]} == {1, 3}
    assert str(place) not in (place / "out" / "vote-data.js").read_text()
    for *_, name, _ in found["images"]:
        assert re.fullmatch("[0-9a-f]{20}", name) and (place / "out" / "tiles" / name).is_dir()


def test_a_run_of_two_protocols_is_there_once(tmp_path):
    make_store(tmp_path / "runs", sizes=((64, 48),))
    for path in (tmp_path / "runs").rglob("scores.json"):
        blocks = json.loads(path.read_text())
        blocks["protocols"]["dype"] = blocks["protocols"]["plain"]
        path.write_text(json.dumps(blocks))
        rows = (path.parent / "scores.jsonl").read_text()
        (path.parent / "scores.jsonl").write_text(rows + rows.replace('"plain"', '"dype"'))
    assert build(tmp_path) == 0 and len(content(tmp_path)["runs"]) == 3


def start(page, place, where="rater=ann&pairs=6", **window):
    page.open(f"{(place / 'out' / 'vote.html').as_uri()}#{where}", **window)
    page.run("document.getElementById('go').click()")
    page.until("!document.getElementById('vote').hidden")


def shown(page):
    return page.run("document.getElementById('progress').textContent")


def pairs(page):
    return page.run("session.pairs.map((p) => [p.prompt, p.a, p.b])")


@browser
def test_votes_from_the_start_to_the_file(place, tmp_path):
    with Browser(tmp_path / "profile") as page:
        page.downloads(tmp_path)
        start(page, place)
        asked = pairs(page)
        seen, html = [], ""
        for key, _ in zip(["ArrowLeft", "ArrowRight", "ArrowDown", "x", "ArrowLeft"], range(5), strict=True):
            html += page.run("document.documentElement.outerHTML")
            seen.append(page.run("document.getElementById('prompt').textContent"))
            page.key(key)
        assert shown(page) == "5 / 6" and seen[3] == seen[4]
        assert not any(name in html for name in METHODS) and "0123" not in html
        assert {"a lighthouse", EVIL} == set(seen) and "&lt;img src=x onerror" in html
        assert page.run("document.title") == "Which image is better?" and page.run("!document.querySelector('p b')")
        page.key("Backspace")
        assert shown(page) == "4 / 6"
        page.key("ArrowRight")
    with Browser(tmp_path / "profile") as page:  # closed, and opened again
        page.downloads(tmp_path)
        page.open((place / "out" / "vote.html").as_uri())
        assert page.run("document.getElementById('rater').value") == "ann"
        assert "2 pairs of the last time are left" in page.run("document.getElementById('state').textContent")
        page.run("document.getElementById('go').click()")
        assert shown(page) == "5 / 6" and pairs(page) == asked
        page.key("ArrowDown"), page.key("ArrowLeft")
        assert "6 votes of ann" in page.run("document.getElementById('sum').textContent")
        for kind in ("json", "csv"):
            page.run(f"document.getElementById('{kind}').click()")
            until = time.monotonic() + 20
            while not (tmp_path / f"votes-ann.{kind}").exists() and time.monotonic() < until:
                time.sleep(0.05)
        page.run("document.getElementById('more').click()")
        assert "6 pairs can be compared" in page.run("document.getElementById('state').textContent")
    found = json.loads((tmp_path / "votes-ann.json").read_text())
    assert found["rater"] == "ann" and found["gallery"] == content(place)["gallery"]
    assert [vote["winner"] for vote in found["votes"]] == ["a", "b", "tie", "b", "tie", "a"]
    runs = {(run["model"], "x".join(map(str, run["size"])), run["run"]): run["label"] for run in content(place)["runs"]}
    for vote, (prompt, a, b) in zip(found["votes"], asked, strict=True):
        assert f"{vote['prompt_id']}|{vote['seed']}" == prompt and vote["rater"] == "ann"
        for side, key in (("a", a), ("b", b)):
            assert f"{vote['model']}/{vote['size']}/{vote[f'run_{side}']}" == key
            assert vote[f"method_{side}"] == runs[vote["model"], vote["size"], vote[f"run_{side}"]]
    with (tmp_path / "votes-ann.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{key: str(value) for key, value in vote.items()} for vote in found["votes"]] == rows


@browser
def test_order_and_sides_are_random_and_the_same_for_a_rater(tmp_path):
    prompts = [f"prompt {k}" for k in range(12)]
    make_store(tmp_path / "runs", sizes=((16, 16),), prompts=prompts)
    assert build(tmp_path) == 0
    with Browser(tmp_path / "profile") as page:
        found = {}
        for rater in ("ann", "bob"):
            start(page, tmp_path, f"rater={rater}&pairs=30")
            found[rater] = pairs(page)
        page.run("localStorage.clear()")
        start(page, tmp_path, "rater=ann&pairs=30")
        assert pairs(page) == found["ann"] != found["bob"]
        sides = [a < b for _, a, b in found["ann"]]
        assert 5 <= sum(sides) <= 25
        together = [frozenset((a, b)) for _, a, b in found["ann"]]
        assert [together.count(item) for item in set(together)] == [10] * 3  # every two methods equally often
        start(page, tmp_path, "rater=eve&pairs=99&method=sega&against=vanilla")
        assert len(pairs(page)) == 12 and all("/vanilla/" not in a for _, a, _ in pairs(page))
        cell = next((tmp_path / "runs" / "flux" / "yarn").glob("*/*")).name
        assert all(cell not in key for _, a, b in pairs(page) for key in (a, b))


@browser
def test_both_images_zoom_and_pan_together(place, tmp_path):
    with Browser(tmp_path / "profile") as page:
        start(page, place, "rater=ann&pairs=3&size=2100x1500")
        moved = "[...document.querySelectorAll('.world')].map((w) => w.style.transform)"
        levels = (
            "[...document.querySelectorAll('.world img')].map((i) => (i.src.match(/(\\d)-\\d-\\d.webp$/) || [])[1])"
        )
        whole = page.run(moved)
        assert whole[0] == whole[1] and "0" not in page.run(levels)
        for _ in range(5):
            page.key("+")
        near = page.run(moved)
        assert near[0] == near[1] != whole[0] and page.run(levels).count("0") >= 2
        page.drag((300, 300), (200, 250))
        panned = page.run(moved)
        assert panned[0] == panned[1] != near[0]
        page.key("0")
        assert page.run(moved) == whole


@browser
def test_a_phone_has_the_images_above_each_other(place, tmp_path):
    with Browser(tmp_path / "profile") as page:
        start(page, place, width=390, height=844, touch=True)
        boxes = page.run("[...document.querySelectorAll('.view')].map((v) => v.getBoundingClientRect().toJSON())")
        assert boxes[1]["top"] >= boxes[0]["bottom"] and boxes[0]["width"] > 370 and boxes[0]["height"] > 200
        assert page.run("document.documentElement.scrollWidth") <= 390
        sides = "[...document.querySelectorAll('#vote button')].map((b) => b.getBoundingClientRect().height)"
        assert min(page.run(sides)) >= 44
        page.run("document.getElementById('right').click()")
        assert shown(page) == "2 / 6" and page.run("session.votes[0].winner") == "b"
