"""Write the answers as one HTML file, in the style of the answer page."""

from __future__ import annotations

from html import escape
from pathlib import Path

from ..answer.document import cell, document
from ..answer.page import choices
from ..answer.types import Quality
from ..records.rows import EMBEDDED
from . import plots, sentences
from .types import Answers, Asked, Effect, Finding, Spot

WEB = Path(__file__).parent / "web"
NOTE = (
    "Differences are of the same captions and noise, with their intervals. Better and worse are verdicts of paired "
    "tests, corrected for all differences of a question, size and metric (Holm). No difference shown: the interval "
    "contains 0, or the verdict did not survive the correction; that does not say that two are equal."
)


def html(answers: Answers, sheets: list[str]) -> str:
    """Return the page. `sheets` are names of contact sheets in images/."""
    links = [("winners", "winners")] + [(asked.name, asked.name) for asked in answers.questions]
    links += [("field", "published methods")] if any(spot.field for spot in answers.spots) else []
    links += [("sheets", "images")] if sheets else []
    short = [sentences.of_question(asked, answers) for asked in answers.questions] + sentences.of_winners(answers)
    header = f"""<h1>What helps, and is it real</h1>
<p>A test of what was found by searching, on {escape(answers.captions)}: the ingredients of SEGA and of the other
published methods one by one, and the combinations that a search found against all published methods.</p>
{f"<p>{escape(EMBEDDED)}</p>" if answers.is_embedded else ""}
<p>{escape(NOTE)}</p>
<div class="said">{"".join(f"<p>{escape(line)}</p>" for line in short)}</div>
<nav aria-label="questions">{" ".join(f'<a href="#{a}">{escape(name)}</a>' for a, name in links)}</nav>"""
    main = [_winners(answers), *(_question(asked, answers) for asked in answers.questions), _field(answers)]
    if sheets:
        main.append(_sheets(sheets))
    maker = "<code>make search-page</code> (<code>python -m eval.verdict page</code>)"
    return document("What helps, and is it real", header, "\n".join(main), maker, (WEB / "style.css").read_text())


def _question(asked: Asked, answers: Answers) -> str:
    """Return the section of a question: what holds on both models, then each place with its table."""
    both = "".join(f"<p>{escape(line)}</p>" for line in sentences.of_both(asked, answers))
    parts = [_finding(finding, answers.spot(finding.place), k == 0) for k, finding in enumerate(asked.findings)]
    return (
        f'<section id="{escape(asked.name)}"><h2>{escape(asked.title)}</h2><p>{escape(asked.about)}</p>'
        f"{both}{''.join(parts)}</section>"
    )


def _finding(finding: Finding, spot: Spot, opened: bool) -> str:
    said = "".join(f"<p>{escape(line)}</p>" for line in sentences.of_finding(finding, spot))
    return (
        f"<details{' open' if opened else ''}><summary><h3>{escape(_title(spot))}</h3></summary>"
        f"{_effects(finding, spot)}{said}</details>"
    )


def _title(spot: Spot) -> str:
    of = f", {spot.scale:.3g}x the training side" if spot.scale else ""
    behind = f", captions after the first {spot.first}" if spot.first else ""
    return f"{spot.name}: {spot.model} at {spot.size}{of}{behind}, N = {spot.n}"


def _effects(finding: Finding, spot: Spot) -> str:
    """Return a table with a row for each pair and a column for each metric: difference, verdict and interval."""
    metrics = [q for q in spot.quality if any(effect.metric == q.name for effect in finding.effects)]
    scales = {q.name: plots.reach(e for e in finding.effects if e.metric == q.name) for q in metrics}
    rows = {
        f"{label} minus {base}": {
            name: _cell(effect, spot, scales[name], _word(effect), bool(effect.verdict))
            for name, effect in finding.of(label, base).items()
        }
        for label, base in finding.pairs
    }
    return _table(f"Differences at {_title(spot)}. Bars are {spot.level:.0%} intervals, the line is 0.", metrics, rows)


def _word(effect: Effect) -> str:
    if effect.equal:
        return "the same"
    return sentences.LOST if effect.is_lost else sentences.WORDS[effect.verdict]


def _table(caption: str, metrics: list[Quality], rows: dict[str, dict[str, str]]) -> str:
    """Return a table of cells by row and metric."""
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(own.get(q.name) or cell(_head(q), "–") for q in metrics)
        + "</tr>"
        for label, own in rows.items()
    )
    heads = "".join(f'<th scope="col">{escape(_head(q))}</th>' for q in metrics)
    return (
        f'<div class="scroll"><table class="effects"><caption>{escape(caption)}</caption>'
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _head(quality: Quality) -> str:
    ranked = quality.name != "high_frequency"
    return f"{quality.title} {'↑' if quality.higher_is_better else '↓'}" if ranked else quality.title


def _cell(effect: Effect, spot: Spot, scale: float, word: str, strong: bool, before: str = "") -> str:
    """Return a cell: the difference, a word on it, and its interval on the scale of the column."""
    quality = next(q for q in spot.quality if q.name == effect.metric)
    kind = "verdict" if strong else "verdict none"
    return (
        f'<td data-name="{escape(_head(quality))}"><span>{escape(before + sentences.difference(effect, quality))}<br>'
        f'<span class="{kind}">{escape(word)}</span>{plots.interval(effect, scale)}</span></td>'
    )


def _winners(answers: Answers) -> str:
    """Return the section of the winners: what they are, and how far each leads or stays behind, at every place."""
    said = "".join(f"<p>{escape(line)}</p>" for line in sentences.of_winners(answers))
    words = "".join(
        f"<p><b>{escape(label)}</b> <code>{escape(line)}</code></p>" for label, line in answers.winners.items()
    )
    spots = [spot for spot in answers.spots if spot.margins]
    tables = [
        f"<details{'' if k else ' open'}><summary><h3>{escape(_title(spot))}</h3></summary>{_margins(spot)}</details>"
        for k, spot in enumerate(spots)
    ]
    about = (
        "A winner beats them all in a metric if it is better than every published method of one pass that was made "
        "there. Shown are its difference to the method that comes closest, or that leads it most, and how many methods "
        "it is better and worse than after the correction for all winners and methods."
    )
    return (
        f'<section id="winners"><h2>Does a combination beat them all?</h2><p>{escape(about)}</p>'
        f"{said}{words}{''.join(tables)}</section>"
    )


def _margins(spot: Spot) -> str:
    metrics = [q for q in spot.quality if any(margin.metric == q.name for margin in spot.margins)]
    scales = {q.name: plots.reach(m.closest for m in spot.margins if m.metric == q.name) for q in metrics}
    rows: dict[str, dict[str, str]] = {}
    for margin in spot.margins:
        beats = sentences.beats(margin, spot)
        word = f"better than {margin.better}, worse than {margin.worse} of {margin.field}"
        word = f"beats all {margin.field}, p = {margin.corrected:.2g}" if beats else word
        shown = _cell(margin.closest, spot, scales[margin.metric], word, beats, f"{margin.closest.base} ")
        rows.setdefault(margin.label, {})[margin.metric] = shown
    return _table(f"Winners minus the closest published method at {_title(spot)}.", metrics, rows)


def _field(answers: Answers) -> str:
    """Return the section of the published methods: which is best at each size and cost."""
    parts = []
    for spot in answers.spots:
        if spot.field is not None:
            opened = "" if parts else " open"
            parts.append(
                f"<details{opened}><summary><h3>{escape(_title(spot))}</h3></summary>"
                f"{''.join(choices(spot.field))}</details>"
            )
    return f'<section id="field"><h2>Which published method is best?</h2>{"".join(parts)}</section>' if parts else ""


def _sheets(names: list[str]) -> str:
    images = "".join(
        f'<a href="images/{escape(name)}"><img src="images/{escape(name)}" alt="one caption by all entries" '
        f'loading="lazy"></a>'
        for name in names
    )
    return (
        '<section id="sheets"><h2>Images</h2><p>The first captions of the test, by all entries; they were not '
        f'chosen.</p><div class="sheets">{images}</div></section>'
    )
