"""Write a static gallery that opens from disk: `python -m eval.gallery`, then open `index.html`.

Images are cut once into WebP tiles of several resolutions, so that a page loads only the visible part of a large image.
Files are named by the hash of the image. Prompts are stored as data and shown as text, never as HTML.
"""

from __future__ import annotations

import re
from pathlib import Path

from sega.errors import RequestError, near

from .. import options
from ..output.manifest import Made
from ..records.rows import Row, richest
from . import single, site, vote
from .content import data
from .files import TITLE, described, write_changed, write_page
from .tiles import cut_all, has_images, tell

HELP = """usage: python -m eval.gallery [key=value ...]

Writes a folder of plain HTML that opens from disk. Slide between two methods or compare up to four, zoom and pan them
together, sort and filter by any score. It shows scored runs. Images that are in the gallery are not cut again.
vote.html beside it is a blind comparison of two images at a time, whose votes python -m eval.votes reads.

  python -m eval.gallery
  python -m eval.gallery model=tiny out=results/gallery
  python -m eval.gallery form=file out=compare.html     one file to send, with the images inside
  python -m eval.gallery form=site url=https://...      a folder to publish: the same with a card and notes

  form     folder           folder | site | file
  out      results/gallery  folder of the gallery; the file of form=file, results/gallery.html
{selection}
  title    SEGA-bench gallery    title of the page
  paper, url, licence       address of the paper, address where the site will lie, licence of the images
  limit    20               form=file: largest size in MB; images are reduced, then prompts left out, until it fits
  workers  2                processes that cut images""".replace("{selection}", options.SELECTION)

KEYS = options.KEYS | {"form": "folder", "out": None, "title": TITLE, "paper": None, "url": None}
KEYS |= {"licence": None, "limit": "20", "workers": "2"}
FORMS = {"folder": "results/gallery", "site": "results/gallery", "file": "results/gallery.html"}


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return options.command(words, lambda: HELP, gallery)


def gallery(words: list[str]) -> int:
    """Write the gallery that the words select."""
    first, _ = options.split_words(words, KEYS)
    if first["form"] not in FORMS:
        raise RequestError(f"unknown form={first['form']}{near(first['form'], FORMS)}")
    form, out = first["form"], Path(first["out"] or FORMS[first["form"]])
    found = options.parse([*words, f"out={out.parent if form == 'file' else out}"], KEYS)
    for key in ("paper", "url"):
        if found[key] and not re.fullmatch(r"https?://\S+", found[key]):
            raise RequestError(f"{key}={found[key]} must be an address that begins with https://")
    workers, limit = options.whole_number(found, "workers"), options.whole_number(found, "limit")
    rows = options.scored(found)
    about = {key: found[key] for key in ("title", "paper", "url", "licence") if found[key]}
    if form == "file":
        made = single.build_file(rows, out, workers, about, limit * 10**6)
    else:
        made = build(rows, out, workers, about, publish=form == "site")
    for what, why in made.skipped.items():
        print(f"no {what}: {why}")
    if not made.fresh:
        print(f"{out}/ is up to date")
    for path in made.files:
        print(path)
    return 0


def build(rows: list[Row], out: Path, workers: int, about: dict[str, str] | None = None, publish: bool = False) -> Made:
    """Cut new images and write the page. Images that cannot be read are listed on stderr.

    `about` has the title and, where given, `paper`, `url` and `licence`. `publish` adds what
    a published page needs.
    """
    rows = richest(rows)
    if not has_images(rows):
        return Made(skipped={"gallery": "the images are missing; only their records exist"}, fresh=False)
    cut, missing = cut_all(rows, out, workers)
    tell(missing)
    about = about or {}
    content = described(data(rows, set(missing)), about)
    head = site.head(content, about) if publish else ""
    changed = write_page(content, out, head)
    changed |= write_changed({vote.DATA: vote.script(vote.data(rows, set(missing)))}, out)
    if publish:
        changed |= site.write_extras(rows, content, out)
    return Made([out / "index.html"], fresh=bool(cut or changed))
