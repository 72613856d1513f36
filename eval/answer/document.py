"""A page as one HTML file without external resources: it opens from disk, and needs no script to be read."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path

WEB = Path(__file__).parent / "web"


def document(title: str, header: str, main: str, maker: str, more: str = "") -> str:
    """Return a page. `maker` is the HTML of the command that makes it; `more` is style beside that of all pages."""
    style, script = (WEB / "style.css").read_text() + more, (WEB / "sort.js").read_text()
    allowed = f"default-src 'none'; img-src 'self' file:; style-src {_hash(style)}; script-src {_hash(script)}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{allowed}">
<title>{escape(title)}: SEGA-bench</title>
<style>{style}</style>
</head>
<body>
<header>
{header}
</header>
<main>
{main}
</main>
<footer><p>Made by {maker} from records only.</p></footer>
<script>{script}</script>
</body>
</html>
"""


def _hash(source: str) -> str:
    """The source of a style or script as a content security policy allows it: no other one can run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def table(caption: str, head: tuple[str, ...], body: Sequence[Sequence[str]]) -> str:
    """Return a plain table of text; on a narrow screen a row is a card."""
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    rows = "".join(
        "<tr>" + "".join(cell(name, words) for name, words in zip(head, line, strict=True)) + "</tr>" for line in body
    )
    return (
        f'<table class="plain"><caption>{escape(caption)}</caption><thead><tr>{names}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def cell(name: str, shown: str, value: float | None = None) -> str:
    """Return a cell with the name of its column, which stands beside it on a narrow screen, and its key for sorting."""
    key = "" if value is None else f"{value:.9g}"
    return f'<td data-name="{escape(name)}" data-key="{key}">{escape(shown)}</td>'
