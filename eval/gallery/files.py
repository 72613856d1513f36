"""The files of the page: which there are, and how they are written beside the data."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any

from ..records.files import write_text

TITLE = "SEGA-bench gallery"
WEB = Path(__file__).parent / "web"
SCRIPTS = ("theme.js", "data.js", "model.js", "images.js", "viewer.js", "loupe.js", "strip.js", "tables.js", "app.js")
"""Scripts of the page in their order; `data.js` is written from the content."""
FILES = ("index.html", "style.css", *(name for name in SCRIPTS if name != "data.js"))
VOTE = ("vote.html", "vote.js", "vote.css")
"""Files of the blind comparison, beside the page; its data are those of `eval.gallery.vote`."""


def described(content: dict[str, Any], about: dict[str, str]) -> dict[str, Any]:
    """Return the content with title, address of the paper and licence, "" where none is given."""
    return content | {
        "title": about.get("title", TITLE),
        "paper": about.get("paper", ""),
        "licence": about.get("licence", ""),
    }


def data_script(content: dict[str, Any]) -> str:
    """Return the content as a script. No text in it can end the script element that holds it."""
    text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return "const DATA = " + text.replace("<", "\\u003c") + ";\n"


def write_page(content: dict[str, Any], out: Path, head: str = "") -> bool:
    """Write data and page. Returns whether anything changed."""
    content = content | {"vote": True}  # a single file lacks it
    page = {"data.js": data_script(content), **{name: (WEB / name).read_text() for name in (*FILES, *VOTE)}}
    page["index.html"] = titled(page["index.html"], content.get("title", TITLE), head)
    changed = write_changed(page, out)
    known = {image["id"] for image in content["images"]}
    for folder in (out / "tiles").glob("*"):  # images that are no longer shown
        if folder.name not in known:
            (out / "thumbs" / f"{folder.name}.webp").unlink(missing_ok=True)
            shutil.rmtree(folder)
            changed = True
    return changed


def titled(page: str, title: str, head: str = "") -> str:
    """Return the page with its title, and with further lines of its head."""
    return page.replace("<title></title>", f"<title>{html.escape(title)}</title>{head}")


def write_changed(files: dict[str, str], out: Path) -> bool:
    """Write the files whose text differs. Returns whether there were any."""
    changed = [n for n, text in files.items() if not (out / n).is_file() or (out / n).read_bytes() != text.encode()]
    for name in changed:
        write_text(out / name, files[name])
    return bool(changed)
