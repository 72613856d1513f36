"""The gallery as one file to send, and as a site to publish."""

import re
import shutil

import pytest
from helpers.browser import BROWSER, Browser
from helpers.gallery_store import EVIL, build, content, make_store
from PIL import Image

from eval.gallery.single import build_file
from sega.errors import RequestError

METHODS = {"vanilla": (25.0, 26.0, 20.0), "sega": (26.0, 31.0, 19.0)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forms")
    make_store(folder / "runs", ((640, 480),), METHODS, ("a lighthouse", EVIL, "a bridge"), (120, 160))
    return folder


def rows_of(folder):
    from eval.options import scored

    options = {"store": folder / "runs", "cache": folder / "cache", "model": None, "method": None, "eval": None}
    return scored(options)


def uris(text):
    return re.findall(r'"(\w{20})":"data:image/webp;base64,', text)


def test_one_file_holds_everything(place, capsys):
    assert build(place, "form=file", f"out={place / 'x.html'}", "title=A </title> & B") == 0
    text = (place / "x.html").read_text()
    assert "Images are exact." in capsys.readouterr().out
    assert len(uris(text)) == 6 and "<title>A &lt;/title&gt; &amp; B</title>" in text
    assert not re.search(r'<(?:script|link)[^>]+(?:src|href)="(?!data:)', text)
    assert build(place, "form=file", f"out={place / 'x.html'}") == 0  # an existing file is written again


def test_what_does_not_fit_is_reduced_and_said(place, tmp_path, capsys):
    made = build_file(rows_of(place), tmp_path / "s.html", 1, {}, 320_000)
    text = made.files[0].read_text()
    assert len(text.encode()) <= 320_000
    said = (
        "Images are reduced to at most 256 px on the longer side (the store has up to 640 px), as WebP of quality 70."
    )
    assert said in capsys.readouterr().out and said in text
    assert len(uris(text)) == 6
    made = build_file(rows_of(place), tmp_path / "t.html", 1, {}, 200_000)
    text = made.files[0].read_text()
    assert len(text.encode()) <= 200_000 and "1 of 3 prompts are here, those on which methods differ most" in text
    assert "onerror" in text and "a bridge" not in text  # the most telling prompt stayed
    with pytest.raises(RequestError, match="too small for the images of one prompt"):
        build_file(rows_of(place), tmp_path / "u.html", 1, {}, 100_000)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (apt-get install chromium)")
def test_the_file_opens_alone_and_runs_no_foreign_script(place, tmp_path):
    build_file(rows_of(place), tmp_path / "s.html", 1, {}, 320_000)
    text = (tmp_path / "s.html").read_text()
    (tmp_path / "s.html").write_text(text.replace("</body>", "<script>document.title = 'foreign'</script></body>"))
    browser = Browser(tmp_path / "profile")
    browser.open((tmp_path / "s.html").as_uri())
    tags = browser.run("[...document.querySelectorAll('.tag b')].map((e) => e.textContent)")
    shown = browser.run("[...document.images].map((i) => i.decode().then(() => i.naturalWidth, () => 0))[0]")
    complete = browser.run("Promise.all([...document.images].map((i) => i.decode().then(() => true, () => false)))")
    title, blocked = browser.run("document.title"), browser.errors
    browser.close()
    assert tags == ["vanilla", "sega"] and shown > 100 and complete and all(complete)
    assert title == "SEGA-bench gallery" and len(blocked) == 1 and "Content Security Policy" in blocked[0]


def test_a_site_has_a_card_and_notes(place, tmp_path, capsys):
    shutil.copytree(place / "runs", tmp_path / "runs")
    words = (
        "form=site",
        'title=Ours "quoted"',
        "url=https://example.org/x/",
        "licence=CC BY 4.0",
        "paper=https://a.b/c",
    )
    assert build(tmp_path, *words) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert '<meta property="og:image" content="https://example.org/x/card.jpg">' in page
    assert '<meta property="og:title" content="Ours &quot;quoted&quot;">' in page
    assert "2 methods side by side on 3 prompts (flux), with scores of every image." in page
    assert Image.open(tmp_path / "out" / "card.jpg").size == (1200, 630)
    notes = (tmp_path / "out" / "NOTES.txt").read_text()
    assert "6 images of 3 prompts and 2 runs" in notes and "Licence of the images: CC BY 4.0" in notes
    assert content(tmp_path)["licence"] == "CC BY 4.0" and content(tmp_path)["paper"] == "https://a.b/c"
    assert not re.findall(r'(?:src|href)="(?:/|https?:)[^"]*"', page.replace('href="https://example.org/x/"', ""))
    capsys.readouterr()
    assert build(tmp_path, *words) == 0
    assert "up to date" in capsys.readouterr().out
