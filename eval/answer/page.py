"""Write the answer as one HTML file without external resources: it opens from disk, and needs no script to be read."""

from __future__ import annotations

from html import escape

from ..published.text import READ_WITH_CARE
from ..records.rows import EMBEDDED
from . import plots, published, sentences, text
from .document import cell, document, table
from .rules import places
from .types import Answer, Method, Section


def html(answer: Answer, there: set[str]) -> str:
    """Return the page. `there` are the names of the images that exist."""
    sections = answer.in_order
    links = [f'<a href="#s{k}">{escape(section.title)}</a>' for k, section in enumerate(sections)]
    body = [_section(section, k, there) for k, section in enumerate(sections)]
    notes = [text.NOTE.replace("\n", " "), text.RANK.replace("\n", " ")]
    if any(section.is_embedded for section in sections):
        notes.insert(0, EMBEDDED)
    if not there:
        notes.append("The images are not here; only their records exist.")
    header = f"""<h1>Which method at which cost</h1>
<p>Methods that make images above the training size of a diffusion transformer, compared on the same captions and noise.
For each size: what to take for a given cost, how sure that is, and every method with its scores.</p>
{"".join(f"<p>{escape(note)}</p>" for note in notes)}
<nav aria-label="sizes">{" ".join(links)} <a href="#published">what the papers print</a></nav>"""
    main = f"""{"".join(body)}
<section id="published">
<h2>What the papers print</h2>
<p>FLUX and Qwen-Image, from the papers: they were not run here. A mark is a value that a paper prints, and a line
joins the values of one method: where papers print the same method, model, size and metric, they differ by this much.
Several marks of one paper are of several data sets or tables. {escape(READ_WITH_CARE.replace("`", ""))}</p>
{published.html()}
</section>"""
    return document(
        "Which method at which cost", header, main, "<code>make answer</code> (<code>python -m eval.answer</code>)"
    )


def _section(section: Section, number: int, there: set[str]) -> str:
    parts = [*choices(section), _board(section, there)]
    opened = " open" if number == 0 or section.decides and (section.scale or 2) > 1 else ""
    return (
        f'<section id="s{number}"><details{opened}><summary><h2>{escape(section.title)}</h2> '
        f"N = {section.n}, protocol {escape(section.protocol)}</summary>\n"
        + "\n".join(parts)
        + "</details></section>\n"
    )


def choices(section: Section) -> list[str]:
    """Return what a size comes to: the sentences, the tables of choices and the plots."""
    said = "".join(f"<p>{escape(line)}</p>" for line in sentences.of_section(section))
    parts = [f'<div class="said">{said}</div>']
    if note := text.busy_note(section):
        parts.append(f'<p class="note">{escape(note)}</p>')
    tables = []
    if budgets := sentences.of_budgets(section):
        tables.append(table("Which method for how much", text.heads(section)[0], budgets))
    if choices := sentences.of_metrics(section):
        tables.append(table("If only one metric counts", text.heads(section)[1], choices))
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
    return parts


def _front_of(svg: str) -> str:
    """The description of a plot, which is its caption too; it is escaped there already."""
    from html import unescape

    return unescape(svg.partition("<desc>")[2].partition("</desc>")[0])


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
        cells = [cell(head[0], *rank), _name(method, place, there)]
        cells += [cell(name, *pair) for name, pair in zip(head[2:-1], numbers, strict=True)]
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
