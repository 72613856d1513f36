"""The page of the gallery in a headless browser: views, keys, touch, sorting, colours, and 5,000 images."""

import json

import pytest
from helpers.browser import BROWSER, Browser
from helpers.gallery_store import EVIL, build, make_store

from eval.gallery.files import write_page

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here (apt-get install chromium)")
LONG = "a very long prompt " * 60 + "withoutaspace" * 30
ARABIC = "منارة بيضاء فوق الجرف"
METHODS = {
    "vanilla": (25.0, 26.0, 20.0, 21.0),
    "ntk": (20.0, 27.0, 22.0, 21.5),
    "yarn": (25.0, 26.0, 20.0, 21.0),
    "sega": (26.0, 31.0, 19.0, 22.0),
    "pi": (24.0, 26.0, 9.0, 20.0),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Five methods, four prompts at two sizes."""
    folder = tmp_path_factory.mktemp("page")
    prompts = ("a lighthouse", EVIL, LONG, ARABIC)
    make_store(folder / "runs", ((2100, 1500),), {name: METHODS[name] for name in ("vanilla", "sega")}, prompts)
    make_store(folder / "small", ((64, 48),), METHODS, prompts)
    for method in METHODS:
        target = folder / "runs" / "flux" / method / "64x48"
        target.parent.mkdir(exist_ok=True)
        (folder / "small" / "flux" / method / "64x48").rename(target)
    assert build(folder) == 0
    return (folder / "out" / "index.html").as_uri()


def texts(browser, selector):
    return browser.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)")


def loaded(browser):
    """Level, column and row of the tiles in the page."""
    names = "[...document.querySelectorAll('.layer img')].map((i) => i.src.match(/(\\d-\\d-\\d).webp/)?.[1])"
    return [name for name in browser.run(names) if name]


def chosen(browser):
    return browser.run("document.querySelector('.cell[aria-selected=true]')?.dataset.prompt")


def test_the_first_view_is_a_slider_of_the_telling_pair(browser, site):
    browser.open(site)
    assert texts(browser, ".tag b") == ["vanilla", "sega"] and chosen(browser) == "1"
    assert browser.run("document.querySelectorAll('.view').length") == 1
    assert texts(browser, "#prompt") == [EVIL] and browser.run("document.title") == "SEGA-bench gallery"
    assert texts(browser, "#values tbody tr:first-child td") == ["26.00", "31.00"]
    assert "28" in texts(browser, "#settings dd")
    width = browser.run("[document.querySelector('.view').clientWidth, document.querySelector('main').clientWidth]")
    assert width[0] == width[1] and browser.errors == []


def test_only_tiles_in_sight_are_loaded(browser, site):
    browser.open(f"{site}#size=2100x1500&view=grid&prompt=0-0")
    assert {name[0] for name in loaded(browser)} == {"2"}  # a pane of 500 px needs no full resolution
    for _ in range(4):
        browser.key("+")
    found = loaded(browser)
    assert "0-0-0" in found and "0-2-1" not in found  # zoomed into the middle: that corner is out of sight
    assert texts(browser, "#fit") == ["5.1×"]


def test_small_images_stay_pixels(browser, site):
    browser.open(f"{site}#size=64x48&view=grid&method=vanilla")
    sharp = "getComputedStyle(document.querySelector('.world.sharp img')).imageRendering"
    assert browser.run(sharp) == "pixelated"


def test_everything_can_be_done_with_keys_and_focus_is_seen(browser, site):
    browser.open(f"{site}#size=64x48&prompt=0-0")
    about = """(() => {
      const e = document.activeElement, s = getComputedStyle(e.matches('.handle') ? e.firstChild : e);
      const label = e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent;
      const name = e === document.body ? 'end' : e.id || e.className || e.dataset.method || e.textContent;
      return [name, s.outlineStyle, parseFloat(s.outlineWidth), label.trim()] })()"""
    seen = []
    for _ in range(60):
        browser.key("Tab")
        found = browser.run(about)
        if found[0] == "end":
            break
        seen.append(found)
    names = [name for name, *_ in seen]
    assert names[:5] == ["vote", "size", "theme", "view", "handle"]
    assert names.index("next") < names.index("strip") < names.index("score") < names.index("vanilla")
    assert all(style == "solid" and width >= 3 and label for _, style, width, label in seen), seen
    browser.key("s")
    assert texts(browser, "#grid[aria-pressed=true]") == ["Side by side"]
    browser.key("2")
    browser.key("3")
    assert texts(browser, ".tag b") == ["vanilla", "sega", "pi", "ntk"]
    browser.key("4")  # there is no room for a fifth: the last one gives way
    assert texts(browser, ".tag b") == ["vanilla", "sega", "pi", "yarn"]
    browser.key("ArrowRight")
    assert chosen(browser) == "1"
    browser.key(".")
    assert browser.run("location.hash").count("size=2100x1500") == 1


def test_the_boundary_moves_with_keys_and_mouse(browser, site):
    browser.open(f"{site}#size=64x48")
    browser.run("document.querySelector('.handle').focus()")
    browser.key("ArrowLeft")
    assert browser.run("document.querySelector('.handle').getAttribute('aria-valuenow')") == "48"
    browser.mouse("pressed", 300, 300)
    browser.mouse("moved", 100, 300, button="left")
    browser.mouse("released", 100, 300)
    assert browser.run("Math.round(state.cut * document.querySelector('.view').clientWidth)") == 100
    assert browser.run("document.querySelector('.over').style.clipPath").startswith("inset(0px 0px 0px 100")


def test_a_phone(browser, site):
    browser.open(f"{site}#size=64x48&prompt=0-0", 390, 844, touch=True)
    assert browser.run("document.documentElement.scrollWidth") == 390
    small = """[...document.querySelectorAll('button, select, input:not([type=checkbox]), label.check, .handle, nav a')]
      .filter((e) => e.offsetParent).map((e) => [e.id || e.textContent, e.offsetWidth, e.offsetHeight])
      .filter(([, w, h]) => w < 44 || h < 44)"""
    assert browser.run(small) == []
    browser.touch("start", (300, 150))
    browser.touch("move", (200, 152))
    browser.touch("end")
    assert chosen(browser) == "1"
    y = browser.run("$('panes').getBoundingClientRect().top") + 120
    browser.touch("start", (195, y))  # on the handle: the boundary moves, the image stays
    browser.touch("move", (295, y))
    browser.touch("end")
    assert browser.run("state.cut") == pytest.approx(295 / 390, abs=0.01) and chosen(browser) == "1"
    browser.touch("start", (150, 150), (200, 150))
    browser.touch("move", (100, 150), (250, 150))
    browser.touch("end")
    assert browser.run("state.scale") == pytest.approx(3, rel=0.05)
    x = browser.run("state.x")
    browser.touch("start", (100, 150))
    browser.touch("move", (140, 150))
    browser.touch("end")
    assert browser.run("state.x") < x and chosen(browser) == "1"  # zoomed: a finger pans


def test_nothing_jumps_between_images(browser, site):
    for width, height in ((390, 844), (820, 1180), (1440, 900)):
        browser.open(f"{site}#size=64x48&prompt=0-0", width, height)
        where = "['panes', 'tools', 'strip', 'methods'].map((id) => $(id).getBoundingClientRect().toJSON())"
        first = browser.run(where)
        for _ in range(3):
            browser.run("move(1)")
            assert browser.run(where) == first
        assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("getComputedStyle($('prompt')).direction") == "rtl"  # the last prompt is Arabic


def test_images_are_sorted_and_filtered(browser, site):
    browser.open(f"{site}#size=64x48&of=gain&order=high")
    assert texts(browser, ".cell span") == ["+5.00", "+1.00", "+1.00", "−1.00"]
    assert [score for score in texts(browser, "#score option")] == ["CLIP ↑", "seconds ↓"]
    browser.run("$('of').value = 'spread'; $('of').dispatchEvent(new Event('change'))")
    order = browser.run("[...document.querySelectorAll('.cell')].map((e) => e.dataset.prompt)")
    assert order == ["2", "0", "1", "3"] and texts(browser, ".cell span")[0] == "4.60"
    browser.run("$('low').value = '2,0'; $('low').dispatchEvent(new Event('input'))")
    assert texts(browser, "#count") == ["2 of 4 images"]
    browser.run("$('words').value = 'zebra'; $('words').dispatchEvent(new Event('input'))")
    assert texts(browser, "#count") == ["No image matches."]
    assert texts(browser, "#none")[0].startswith("No image matches the words “zebra” and CLIP, disagreement")
    browser.run("$('clear').click()")
    assert texts(browser, "#count") == ["4 of 4 images"] and texts(browser, "#none") == [""]
    browser.run("$('words').value = 'الجرف'; $('words').dispatchEvent(new Event('input'))")
    assert texts(browser, "#count") == ["1 of 4 images"] and browser.errors == []


def test_scores_and_win_rates_beside_the_methods(browser, site):
    browser.open(f"{site}#size=64x48")
    rows = texts(browser, "#methods tbody tr")
    assert rows[0] == "vanilla25.50 24.00 to 27.00–" and "sega25.50 24.00 to 27.0075 % 25 to 100" in rows
    assert "yarn25.50 24.00 to 27.00equal" in rows
    browser.run("document.querySelector('[data-sort=wins] button').click()")
    assert [row[:3] for row in texts(browser, "#methods tbody tr")][-1] == "van"
    browser.run("document.querySelector('[data-method=pi]').focus()")
    browser.key(" ")
    assert texts(browser, ".tag b") == ["vanilla", "pi"]
    assert browser.run("document.activeElement.dataset.method") == "pi"


def test_the_loupe_shows_both_methods(browser, site):
    browser.open(f"{site}#size=64x48")
    browser.run("$('loupe').click()")
    browser.mouse("moved", 400, 200)
    assert texts(browser, ".lens span") == ["vanilla", "sega"]
    box = "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
    at = browser.run(f"{box}(document.querySelector('.aim').getBoundingClientRect())")
    assert at == pytest.approx([400, 200], abs=1)
    scale = "[...document.querySelectorAll('%s .world')].map((e) => +e.style.transform.match(/scale\\((.*)\\)/)[1])"
    assert browser.run(scale % ".lens") == pytest.approx([4 * s for s in browser.run(scale % ".layer")])
    browser.key("Escape")
    assert browser.run("document.querySelectorAll('.lens').length") == 0


CONTRAST = """(() => {
  const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  return [...document.querySelectorAll('body *')].filter((e) => e.offsetParent && !e.disabled && !e.closest('.pane')
      && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).map((e) => {
    const a = light(getComputedStyle(e).color), b = light(behind(e));
    return [e.tagName, e.id, e.textContent.slice(0, 30), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  }).filter(([, , , ratio]) => ratio < 4.5); })()"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_light_and_dark(browser, site, dark):
    browser.open(f"{site}#size=64x48", dark=dark)
    assert browser.run("document.documentElement.dataset.theme") == ("dark" if dark else "light")
    browser.run("document.querySelectorAll('button').forEach((b) => (b.style.transition = 'none'))")
    assert browser.run(CONTRAST) == []
    browser.run("$('theme').click(); $('theme').click()")
    assert browser.run("document.documentElement.dataset.theme") == "dark"
    browser.run("$('theme').click()")  # the choice is stored: back to the system's


def test_5000_images_load_what_is_in_sight(browser, tmp_path):
    prompts = [{"key": f"{k:04d}-0", "seed": 0, "text": f"prompt {k} " + "of some length " * 10} for k in range(500)]
    scores = [
        {"name": f"s{k}", "title": f"score {k}", "better": 1, "digits": 2, "unit": "", "each": True} for k in range(8)
    ]
    about = {"model": "flux", "size": [4096, 4096], "settings": {}, "n": 500, "reference": False}
    runs = [about | {"label": f"m{r}", "scores": {"s0": [r, r - 1, r + 1]}} for r in range(10)]
    images = [
        {"run": r, "prompt": k, "id": f"{r}x{k}".zfill(20), "values": [12.345 + r * k] * 8, "size": [4096, 4096]}
        | {"levels": 3}
        for r in range(10)
        for k in range(500)
    ]
    content = {"tile": 1024, "title": "t", "note": "", "prompts": prompts, "scores": scores, "runs": runs}
    write_page(content | {"images": images, "opening": {}, "sizes": {}, "licence": "", "paper": ""}, tmp_path / "out")
    assert (tmp_path / "out" / "data.js").stat().st_size < 1.5e6
    where = "#prompt=0499-0&view=grid&method=m3&method=m7&method=m9&method=m0&of=spread&order=low"
    browser.open((tmp_path / "out" / "index.html").as_uri() + where)
    assert browser.run("document.querySelectorAll('*').length") < 700
    assert texts(browser, "#count") == ["500 of 500 images"] and chosen(browser) == "499"
    tiles = browser.run("[...document.querySelectorAll('.layer img')].map((i) => i.src.match(/tiles.*/)?.[0])")
    assert len([tile for tile in tiles if tile]) == 4 and all("/2-" in tile for tile in tiles if tile)
    for _ in range(12):
        browser.key("+")
    assert browser.run("document.querySelectorAll('.layer img').length") < 4 * 22
    browser.run("document.querySelector('#strip').scrollLeft = 0")
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert texts(browser, ".cell span")[0] and browser.run("document.querySelectorAll('.cell').length") < 30
    took = "(() => { const t = performance.now(); state.words = '1'; listImages(); return performance.now() - t })()"
    assert browser.run(took) < 500
