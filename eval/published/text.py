"""Write published values beside ours, as Markdown, LaTeX and CSV."""

from __future__ import annotations

import textwrap
from typing import cast

from sega.store.screen import table

from ..metrics.registry import metrics
from ..output.markup import BOOKTABS, align, booktabs, csv_text, tex
from ..output.numbers import number, with_interval
from ..records.schema import MetricScore
from .values import Joined

READ_WITH_CARE = (
    "Published values keep their printed digits; if a paper prints several for one entry, all are shown. FID can be\n"
    "compared within one table only, because reference sets and counts differ between papers. The spread is the\n"
    "largest value minus the smallest of different papers for the same method. `eval/published/README.md` describes\n"
    "what each paper did.\n"
)


HEADER = [
    *("model", "size", "method", "metric", "paper", "table", "published", "ours", "ours_n", "difference"),
    *("spread_between_papers", "published_model", "dataset", "n_prompts", "notes"),
]


def to_markdown(joined: list[Joined], paper: str = "", width: int | None = None) -> str:
    """Return a table for each model and size: our value, the papers' values, differences, and the spread of papers.

    With `paper`, its values are first and only they are used for differences. With `width`, the columns of a terminal,
    the table is plain text that fits.
    """
    parts = []
    for model, size in dict.fromkeys((j.model, j.size) for j in joined):
        chosen = [j for j in joined if (j.model, j.size) == (model, size)]
        head, body = _table(chosen, paper)
        sources = _sources(chosen)
        if width:
            sources = "".join(textwrap.fill(s, width, subsequent_indent="  ") + "\n" for s in sources.splitlines())
        shown = table(head, body, width, keys=2) if width else align(head, body)
        parts.append(f"## {model}, {size}\n\n{shown}\n{sources}")
    return "\n".join(parts)


def to_latex(joined: list[Joined], paper: str = "") -> str:
    """Return the same tables for LaTeX with booktabs."""
    parts = []
    for model, size in dict.fromkeys((j.model, j.size) for j in joined):
        chosen = [j for j in joined if (j.model, j.size) == (model, size)]
        head, body = _table(chosen, paper)
        caption = f"{model}, {size}. {_sources(chosen).replace(chr(10), ' ').strip()}"
        parts.append(booktabs(head, [[tex(cell) for cell in line] for line in body], caption, left=3 if paper else 2))
    return BOOKTABS + "\n".join(parts)


def _table(chosen: list[Joined], paper: str) -> tuple[list[str], list[list[str]]]:
    names = list(dict.fromkeys(v.paper for j in chosen for v in j.values))
    names.sort(key=lambda name: name != paper)
    order = list(dict.fromkeys(j.metric for j in chosen))
    body = []
    for j in sorted(chosen, key=lambda j: (order.index(j.metric), j.dataset)):
        cells = []
        for name in names:
            cells.append(" / ".join(dict.fromkeys(v.text for v in j.values if v.paper == name)))
        digits = metrics()[j.metric].digits if j.metric in metrics() else 2
        title = metrics()[j.metric].title if j.metric in metrics() else j.metric
        arrow = "↑" if j.values[0].higher_is_better else "↓"
        spread = "" if j.spread is None else number(j.spread, digits)
        data = [j.dataset] if paper else []
        body.append([f"{title} {arrow}", *data, j.method, *_ours(j, digits, paper), *cells, spread])
    data = ["data"] if paper else []
    return ["metric", *data, "method", "ours", f"ours − {paper or 'published'}", *names, "spread"], body


def our_cell(j: Joined) -> MetricScore | None:
    """Return our cell of this metric, None if we have no value."""
    if j.ours is None:
        return None
    if j.metric == "latency_s":
        seconds = j.ours.block["cost"]["seconds"]
        found = {"value": seconds, "low": None, "high": None, "digits": 1, "n": j.ours.block["n"]}
        return None if seconds is None else cast(MetricScore, found)
    cell = j.ours.cell(j.metric) if j.metric in metrics() else None
    return cell if cell and "value" in cell else None


def _ours(j: Joined, digits: int, paper: str) -> list[str]:
    cell = our_cell(j)
    if not cell:
        return ["", ""]
    text = with_interval(cell, cell["digits"])
    text += f" (N={cell['n']})" if j.metric in metrics() and metrics()[j.metric].kind == "fid" else ""
    differences = [cell["value"] - v.value for v in j.values if paper in ("", v.paper)]
    low, high = number(min(differences), digits), number(max(differences), digits)
    return [text, low if low == high else f"{low} to {high}"]


def _sources(chosen: list[Joined]) -> str:
    lines = []
    for paper in dict.fromkeys(v.paper for j in chosen for v in j.values):
        own = [v for j in chosen for v in j.values if v.paper == paper]
        models, data = (", ".join(dict.fromkeys(getattr(v, key) for v in own)) for key in ("model", "dataset"))
        counts = ", ".join(dict.fromkeys(v.n_prompts for v in own))
        lines.append(f"- {paper}: {models}; {data}; prompts: {counts}.")
    return "\n".join(lines) + "\n"


def to_csv(joined: list[Joined]) -> str:
    """Return one row per published value, with our value beside it."""
    import pandas

    body = []
    for j in joined:
        cell = our_cell(j)
        ours, n = (cell["value"], cell["n"]) if cell else (None, None)
        for v in j.values:
            difference = None if ours is None else ours - v.value
            about = [j.model, j.size, j.method, j.metric, v.paper, v.table, v.text, ours, n, difference]
            body.append([*about, j.spread, v.model, v.dataset, v.n_prompts, v.notes])
    return csv_text(pandas.DataFrame(body, columns=HEADER, dtype=object))
