"""Write the answer as one HTML file without external resources: it opens from disk, and needs no script to be read."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..published.text import READ_WITH_CARE
from ..records.rows import EMBEDDED
from . import plots, published, sentences, text
from .rules import places
from .types import Answer, Method, Section

WEB = Path(__file__).parent / "web"


def html(answer: Answer, there: set[str]) -> str:
    """Return the page. `there` are the names of the images that exist."""
    style, script = ((WEB / name).read_text() for name in ("style.css", "sort.js"))
    allowed = f"default-src 'none'; img-src 'self' file:; style-src {_hash(style)}; script-src {_hash(script)}"
    sections = answer.in_order
    links = [f'<a href="#s{k}">{escape(section.title)}</a>' for k, section in enumerate(sections)]
    body = [_section(section, k, there) for k, section in enumerate(sections)]
    notes = [text.NOTE.replace("\n", " "), text.RANK.replace("\n", " ")]
    if any(section.is_embedded for section in sections):
        notes.insert(0, EMBEDDED)
    if not there:
        notes.append("The images are not here; only their records exist.")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{allowed}">
<title>Which method at which cost: SEGA-bench</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>Which method at which cost</h1>
<p>Methods that make images above the training size of a diffusion transformer, compared on the same captions and noise.
For each size: what to take for a given cost, how sure that is, and every method with its scores.</p>
{"".join(f"<p>{escape(note)}</p>" for note in notes)}
<nav aria-label="sizes">{" ".join(links)} <a href="#published">what the papers print</a></nav>
</header>
<main>
{"".join(body)}
<section id="published">
<h2>What the papers print</h2>
<p>FLUX and Qwen-Image, from the papers: they were not run here. A mark is a value that a paper prints, and a line
joins the values of one method: where papers print the same method, model, size and metric, they differ by this much.
Several marks of one paper are of several data sets or tables. {escape(READ_WITH_CARE.replace("`", ""))}</p>
{published.html()}
</section>
</main>
<footer><p>Made by <code>make answer</code> (<code>python -m eval.answer</code>) from records only.</p></footer>
<script>{script}</script>
</body>
</html>
"""


def _hash(source: str) -> str:
    """The source of a style or script as a content security policy allows it: no other one can run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _section(section: Section, number: int, there: set[str]) -> str:
    said = "".join(f"<p>{escape(line)}</p>" for line in sentences.of_section(section))
    parts = [f'<div class="said">{said}</div>']
    if note := text.busy_note(section):
        parts.append(f'<p class="note">{escape(note)}</p>')
    tables = []
    if budgets := sentences.of_budgets(section):
        tables.append(_table("Which method for how much", text.heads(section)[0], budgets))
    if choices := sentences.of_metrics(section):
        tables.append(_table("If only one metric counts", text.heads(section)[1], choices))
    if tables:
        parts.append(f'<div class="tables">{"".join(tables)}</div>')
    drawn = [(q, plots.pareto(section, q)) for q in section.quality]
    figures = [f"<figure>{svg}<figcaption>{escape(_front_of(svg))}</figcaption></figure>" for _, svg in drawn if svg]
    if figures:
        level = f"{section.level:.0%}"
        sure = "" if section.decides else " With so few images a front is an order of values, not a finding."
        parts.append(f'<div class="plots">{"".join(figures)}</div>')
        parts.append(
            f'<p class="note">Bars are {level} intervals over captions. The line is the Pareto front: what no other '
            f"method beats in both cost and value.{sure}</p>"
        )
    parts.append(_board(section, there))
    opened = " open" if number == 0 or section.decides and (section.scale or 2) > 1 else ""
    return (
        f'<section id="s{number}"><details{opened}><summary><h2>{escape(section.title)}</h2> '
        f"N = {section.n}, protocol {escape(section.protocol)}</summary>\n"
        + "\n".join(parts)
        + "</details></section>\n"
    )


def _front_of(svg: str) -> str:
    """The description of a plot, which is its caption too; it is escaped there already."""
    from html import unescape

    return unescape(svg.partition("<desc>")[2].partition("</desc>")[0])


def _table(caption: str, head: tuple[str, ...], body: Sequence[Sequence[str]]) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    rows = "".join(
        "<tr>" + "".join(_cell(name, cell) for name, cell in zip(head, line, strict=True)) + "</tr>" for line in body
    )
    return (
        f'<table class="plain"><caption>{escape(caption)}</caption><thead><tr>{names}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _board(section: Section, there: set[str]) -> str:
    """Return the leaderboard: a row a method, which a script can sort and which is a card on a narrow screen."""
    found = places(section)
    arrows = [f"{q.title} {'↑' if q.higher_is_better else '↓'}" for q in section.quality]
    units = [f"{name}, {q.unit}" if q.unit else name for name, q in zip(arrows, section.quality, strict=True)]
    head = ["rank", "method", *units, "s/image", "calls", "full-size calls", "peak MB", "in a sentence"]
    heads = "".join(
        f'<th scope="col"><button type="button">{escape(name)}</button></th>'
        if name != "in a sentence"
        else f'<th scope="col">{name}</th>'
        for name in head
    )
    rows = []
    for place, k in enumerate(text.in_rank(section)):
        method = section.methods[k]
        own = found.get(k)
        rank = (str(own.rank), own.rank) if own else ("–", None)
        numbers: list[tuple[str, float | None]] = [
            (shown, method.scores.get(q.name, {}).get("value"))
            for shown, q in zip(text.scores(section, method), section.quality, strict=True)
        ]
        known = [method.cost[key] for key in ("seconds", "raw", "calls", "memory")]
        numbers += list(zip(text.costs(method), known, strict=True))
        cells = [_cell(head[0], *rank), _name(method, place, there)]
        cells += [_cell(name, *pair) for name, pair in zip(head[2:-1], numbers, strict=True)]
        cells.append(f'<td class="words">{_words(section, k)}</td>')
        kind = "" if method.drawn else ' class="renders"'
        rows.append(f"<tr{kind}>{''.join(cells)}</tr>")
    caption = f"Leaderboard of {section.title}"
    image = ""
    if section.prompt and there:
        image = f"Images: “{section.prompt}”; right, the part with the most structure, the same for all. "
    return (
        f'<div class="scroll"><table class="board"><caption>{escape(caption)}. {escape(image)}A click on a column '
        f"sorts.</caption><thead><tr>{heads}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>"
    )


def _cell(name: str, shown: str, value: float | None = None) -> str:
    """Return a cell with the name of its column, which stands beside it on a narrow screen, and its key for sorting."""
    key = "" if value is None else f"{value:.9g}"
    return f'<td data-name="{escape(name)}" data-key="{key}">{escape(shown)}</td>'


def _name(method: Method, place: int, there: set[str]) -> str:
    images = ""
    if method.image in there:
        alt = escape(f"image of {method.label}")
        images = (
            f'<span class="pair"><img src="images/{method.image}.jpg" alt="{alt}" loading="lazy">'
            f'<img class="part" src="images/{method.image}-part.jpg" alt="part of it" loading="lazy"></span>'
        )
    return (
        f'<th scope="row" data-key="{place}"><b>{escape(method.label)}</b> '
        f'<span class="n">N = {method.n}</span>{images}</th>'
    )


def _words(section: Section, k: int) -> str:
    method = section.methods[k]
    if not method.drawn:
        return "Renders of other scenes with the same captions: what a perfect model would score."
    found = f"<p>{escape(sentences.of_method(section, k))}</p>"
    commit = f"commit {escape(method.commit[:12])}" if method.commit else "commit unknown"
    commit += ", with changes" if method.dirty else ""
    command = f"<code>{escape(method.command)}</code>" if method.command else "made elsewhere: no command"
    return (
        found
        + f"<details><summary>make it again</summary><p>{commit}, cell {escape(method.run)}</p>{command}</details>"
    )
