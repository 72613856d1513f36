"""The gallery: tiles, data, second calls, and the page itself in a headless browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.gallery.page import main, write_page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = '<img src=x onerror="document.title=1"></script><b>bold</b> & "quotes" \u2028 end'


def make_store(store: Path, sizes=((64, 48), (2100, 1500))) -> None:
    """Two methods at two sizes, scored by hand; the second prompt is hostile."""
    rng = np.random.default_rng(0)
    for method in ("vanilla", "yarn"):
        for width, height in sizes:
            folder = store / "flux" / method / f"{width}x{height}" / "0123456789ab"
            folder.mkdir(parents=True)
            rows, scores = [], []
            for number, prompt in enumerate(("a lighthouse", EVIL)):
                coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
                image = Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST)
                image.save(folder / f"{number}-0.png", compress_level=1)
                sha = gallery_sha(folder / f"{number}-0.png")
                row = {"prompt_id": str(number), "seed": 0, "prompt": prompt, "file": f"{number}-0.png", "sha256": sha}
                rows.append(row | {"seconds": 2.5})
                scores.append(row | {"protocol": "plain", "values": {"clip_score": 25.0 + number, "piqe": None}})
            block = {"n": 2, "damaged": [], "metrics": {}, "cost": {}, "networks": {}, "settings": {}}
            (folder / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
            (folder / "scores.json").write_text(json.dumps({"schema": 1, "protocols": {"plain": block}}))
            identity = {"method": {"name": method}, "steps": 28, "guidance": 3.5}
            (folder / "run.json").write_text(json.dumps({"hash": "0123456789ab", "identity": identity, "config": {}}))


def gallery_sha(path):
    from sega.store.files import file_sha

    return file_sha(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    make_store(folder / "runs")
    assert build(folder) == 0
    return folder


def build(folder, *words):
    places = [f"store={folder / 'runs'}", f"cache={folder / 'cache'}", f"out={folder / 'out'}"]
    return main([*places, "workers=1", *words])


def content(folder):
    text = (folder / "out" / "data.js").read_text()
    return json.loads(text.removeprefix("const DATA = ").removesuffix(";\n"))


def test_data_holds_what_is_shown(place):
    found = content(place)
    assert [run["label"] for run in found["runs"]] == ["vanilla", "yarn"] * 2
    assert found["runs"][0]["settings"]["steps"] == "28" and found["runs"][0]["size"] == [64, 48]
    assert [p["text"] for p in found["prompts"]] == ["a lighthouse", EVIL]
    assert found["images"][0]["values"] == {"CLIP": "25.00", "seconds": "2.50"}
    assert [p["levels"] for p in found["images"]] == [1] * 4 + [3] * 4
    assert "quality 90" in found["note"]
    assert "\u2028" not in (place / "out" / "data.js").read_text()


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


def page(place: Path, profile: Path, where: str, keys: str = "") -> str:
    """The page after it ran and after the keys were pressed, as the browser sees it."""
    out = place / "out"
    script = "".join(f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}'}}));" for key in keys.split())
    (out / "keys.js").write_text(script)
    html = (out / "index.html").read_text().replace("</body>", '<script src="keys.js"></script></body>')
    (out / "test.html").write_text(html)
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={profile}",
        "--window-size=1200,800",
        "--virtual-time-budget=3000",
        "--dump-dom",
        f"{(out / 'test.html').as_uri()}#{where}",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def telling(tmp_path_factory):
    """A third method that gains most on the second prompt, and a fourth that loses."""
    folder = tmp_path_factory.mktemp("opening")
    make_store(folder / "runs", sizes=((64, 48),))
    for method, scores in (("sega", (26.0, 31.0)), ("pi", (9.0, 9.0))):
        old, new = folder / "runs" / "flux" / "yarn", folder / "runs" / "flux" / method
        shutil.copytree(old, new)
        (run,) = new.glob("*/*")
        lines = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
        for line, score in zip(lines, scores, strict=True):
            line["values"]["clip_score"] = score
        (run / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        record = json.loads((run / "run.json").read_text())
        record["identity"]["method"]["name"] = method
        (run / "run.json").write_text(json.dumps(record))
    for path in folder.rglob("scores.json"):
        record = json.loads(path.read_text())
        record["protocols"]["plain"]["metrics"] = {"clip_score": {"value": 25.0, "n": 2, "title": "CLIP", "digits": 2}}
        path.write_text(json.dumps(record))
    assert build(folder) == 0
    return folder


def test_it_opens_on_the_best_against_the_plain_model(telling, place):
    assert content(telling)["opening"] == {"flux 64x48": {"methods": ["vanilla", "sega"], "prompt": 1}}
    assert content(place)["opening"] == {}  # no metric tells them apart


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (apt-get install chromium); the page was not tried")
def test_the_first_view_is_a_slider_of_that_pair(telling, tmp_path):
    dom = page(telling, tmp_path / "profile", "")
    assert dom.count('class="view') == 1 and 'class="handle"' in dom
    assert re.findall(r"<figcaption><b>(\w+)", dom) == ["vanilla", "sega"]
    assert 'data-prompt="1"' in re.search(r'<li[^>]*aria-selected="true"[^>]*>', dom)[0]
    dom = page(telling, tmp_path / "profile", "method=yarn")
    assert re.findall(r"<figcaption><b>(\w+)", dom) == ["yarn"]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (apt-get install chromium); the page was not tried")
def test_the_page_in_a_browser(place, tmp_path):
    dom = page(place, tmp_path / "profile", "size=2100x1500&prompt=1-0")
    assert dom.count('class="view"') == 2 and "<title>SEGA-bench gallery</title>" in dom
    assert "&lt;img src=x onerror" in dom and "<b>bold</b>" not in dom
    assert re.search(r"<dt>CLIP</dt><dd>26.00</dd>", dom) and "<dd>28</dd>" in dom
    loaded = set(re.findall(r'src="tiles/\w+/(\d)-\d-\d\.webp"', dom))
    assert loaded and "0" not in loaded  # a whole image of 2100 px in a pane of 450 px needs no full resolution

    dom = page(place, tmp_path / "profile", "size=2100x1500&prompt=0-0", "+ + + + s ArrowRight")
    assert dom.count('class="view"') == 1 and 'class="world over"' in dom and 'class="handle"' in dom
    assert "5.1×" in dom and 'data-prompt="1"' in re.search(r'<li[^>]*aria-selected="true"[^>]*>', dom)[0]
    assert "0" in set(re.findall(r'src="tiles/\w+/(\d)-\d-\d\.webp"', dom))
    assert "/0-0-0.webp" in dom and "/0-2-1.webp" not in dom  # zoomed into the middle: that corner is out of sight

    dom = page(place, tmp_path / "profile", "size=64x48&method=vanilla", "2 1")
    assert re.findall(r"<figcaption><b>(\w+)", dom) == ["yarn"]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (apt-get install chromium); the page was not tried")
def test_a_page_of_5000_images_loads_those_in_sight(tmp_path):
    prompts = [{"key": f"{k:04d}-0", "seed": 0, "text": f"prompt {k}"} for k in range(500)]
    runs = [{"label": f"m{r}", "model": "flux", "size": [4096, 4096], "settings": {"steps": "28"}} for r in range(10)]
    images = [
        {"run": r, "prompt": k, "id": f"{r}x{k}", "values": {"CLIP": "30.0"}, "size": [4096, 4096], "levels": 3}
        for r in range(10)
        for k in range(500)
    ]
    content = {"tile": 1024, "note": "", "prompts": prompts, "runs": runs, "images": images, "opening": {}}
    write_page(content, tmp_path / "out")
    dom = page(tmp_path, tmp_path / "profile", "prompt=0499-0&method=m3&method=m7&method=m9&method=m0")
    assert dom.count("<li ") == 500 and dom.count('class="view"') == 4
    tiles = re.findall(r'src="tiles/(\d+x\d+)/(\d)-', dom)
    assert {name for name, _ in tiles} == {f"{r}x499" for r in (3, 7, 9, 0)} and {level for _, level in tiles} == {"2"}
