"""The published numbers of a model and size: for each method and metric the values of all papers, and their spread."""

from __future__ import annotations

from html import escape

from ..metrics.registry import metrics
from ..published.values import Joined, join
from .plots import marker, names_of, spread

HEAD = ("metric", "method", "lowest to highest", "printed by")


def title_of(j: Joined) -> str:
    """Return the title of a metric with its better direction."""
    arrow = "↑" if j.values[0].higher_is_better else "↓"
    return f"{metrics()[j.metric].title if j.metric in metrics() else j.metric} {arrow}"


def extent(j: Joined) -> str:
    """Return the lowest and the highest printed value, or the only one."""
    low, high = min(j.values, key=lambda v: v.value), max(j.values, key=lambda v: v.value)
    return low.text if low.value == high.value else f"{low.text} to {high.text}"


def sources(j: Joined) -> str:
    """Return which paper printed which value of which variant: `DyPE 186.00 (FLUX.1-Krea-dev, table 1)`."""
    found = []
    for v in j.values:
        where = [v.model.partition(" (")[0], *([f"table {v.table}"] if v.table != "unknown" else [])]
        found.append(f"{v.paper} {v.text} ({', '.join(where)})")
    return "; ".join(found)


def groups(joined: list[Joined] | None = None) -> dict[tuple[str, str], list[Joined]]:
    """Return the entries of each model and size, those sizes first that several papers printed."""
    found: dict[tuple[str, str], list[Joined]] = {}
    for j in join([]) if joined is None else joined:
        if "unknown" not in j.size:
            found.setdefault((j.model, j.size), []).append(j)
    return dict(sorted(found.items(), key=lambda item: (item[0][0], not any(j.spread for j in item[1]))))


def html(joined: list[Joined] | None = None) -> str:
    """Return a block for each model and size: plots of each metric, and a table of all values."""
    found = groups(joined)
    papers = names_of(v.paper for group in found.values() for j in group for v in j.values)
    parts = []
    for (model, size), group in found.items():
        several = sum(j.spread is not None for j in group)
        plots = []
        for metric in dict.fromkeys(j.metric for j in group):
            own = [j for j in group if j.metric == metric]
            turned = own[0].values[0].higher_is_better
            own.sort(key=lambda j: sum(v.value for v in j.values) / len(j.values), reverse=turned)
            rows = [(j.method, [(v.paper, v.value, v.text) for v in j.values]) for j in own]
            name = title_of(own[0])
            drawn = spread(f"{name}, {model} at {size}", rows, papers)
            plots.append(f"<figure>{drawn}<figcaption>{escape(name)}</figcaption></figure>")
        cells = [(title_of(j), j.method, extent(j), sources(j)) for j in group]
        body = "\n".join(
            "<tr>"
            + "".join(f'<td data-name="{name}">{escape(cell)}</td>' for name, cell in zip(HEAD, line, strict=True))
            + "</tr>"
            for line in cells
        )
        head = "".join(f'<th scope="col">{name}</th>' for name in HEAD)
        here = names_of(v.paper for j in group for v in j.values)
        keys = " ".join(
            f'<span class="key"><svg viewBox="-7 -7 14 14" aria-hidden="true">{marker(papers.index(paper), 0, 0)}</svg>'
            f"{escape(paper)}</span>"
            for paper in here
        )
        said = f"{len(group)} entries, {several} of them printed by several papers"
        heading = f"<summary><h3>{escape(model)} at {escape(size)}</h3> {said}</summary>"
        parts.append(
            f"<details{' open' if several else ''}>{heading}\n"
            f'<p class="keys">{keys}</p>\n<div class="plots">{"".join(plots)}</div>\n'
            '<details><summary>all values</summary><div class="scroll"><table class="plain">'
            f"<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div></details></details>"
        )
    return "\n".join(parts)


def markdown(joined: list[Joined] | None = None) -> list[tuple[str, list[list[str]]]]:
    """Return for each model and size the rows that several papers printed, with a title."""
    found = []
    for (model, size), group in groups(joined).items():
        rows = [[title_of(j), j.method, extent(j), sources(j)] for j in group if j.spread is not None]
        if rows:
            found.append((f"{model} at {size}", rows))
    return found
