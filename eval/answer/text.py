"""Write the answer as Markdown: the sentences, the choices and the scores, without images."""

from __future__ import annotations

from ..output.markup import align
from ..output.numbers import with_interval
from ..published.text import READ_WITH_CARE
from ..records.rows import EMBEDDED
from . import published, sentences
from .rules import places
from .types import COSTS, Answer, Method, Section

NOTE = (
    'Every sentence is made by a rule from paired comparisons on common captions and seeds. "Not distinguishable"\n'
    "says that the paired test gives no verdict at this N; it does not say that two methods are equal.\n"
)
RANK = (
    "Methods are ranked by comparisons won minus comparisons lost, over all other methods and the metrics shown; a\n"
    "comparison is won or lost if its verdict is better or worse."
)


def markdown(answer: Answer) -> str:
    """Return `answer.md`."""
    parts = ["# Which method at which cost\n", NOTE, RANK + "\n"]
    for section in answer.in_order:
        parts.append(f"## {section.title}\n")
        parts.append(" ".join(sentences.of_section(section)) + "\n")
        if busy := busy_note(section):
            parts.append(busy + "\n")
        if budgets := sentences.of_budgets(section):
            parts.append(align(list(heads(section)[0]), [list(line) for line in budgets]))
        if choices := sentences.of_metrics(section):
            parts.append(align(list(heads(section)[1]), [list(line) for line in choices]))
        parts.append(_table(section))
        if section.is_embedded:
            parts.append(EMBEDDED + "\n")
    parts.append("# What the papers print\n")
    parts.append("Values that several papers print for the same model, size and method.\n\n" + READ_WITH_CARE)
    for title, rows in published.markdown():
        parts.append(f"## {title}\n\n" + align(list(published.HEAD), rows))
    return "\n".join(parts)


def heads(section: Section) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the heads of the tables of budgets and of single metrics."""
    unit = COSTS.get(section.cost, "")
    took = "seconds" if not section.busy else "seconds, measured while busy"
    return (f"{unit}, at least", took, "take", "which is"), (
        "metric",
        "best",
        "cheapest that is not worse",
        f"its {unit}",
    )


def _table(section: Section) -> str:
    found = places(section)
    head = [
        "rank",
        "method",
        "N",
        *(q.title for q in section.quality),
        "s/image",
        "calls",
        "full-size calls",
        "peak MB",
    ]
    body = []
    for k in in_rank(section):
        method = section.methods[k]
        rank = str(found[k].rank) if k in found else ""
        body.append([rank, method.label, str(method.n), *scores(section, method), *costs(method)])
    return align(head, body)


def in_rank(section: Section) -> list[int]:
    """Return the indices of all rows by rank, then in the order of the table; true renders last."""
    found = places(section)
    last = len(section.methods) + 1
    return sorted(range(len(section.methods)), key=lambda k: (found[k].rank if k in found else last, k))


def scores(section: Section, method: Method) -> list[str]:
    """Return the values of a method with half their intervals."""
    known = [(method.scores.get(q.name, {}), q.digits) for q in section.quality]
    return [with_interval(score, digits) if "value" in score else "–" for score, digits in known]


def costs(method: Method) -> list[str]:
    """Return seconds (median, and where most images lie), calls, full-size calls and memory; "" where unknown."""
    cost = method.cost
    seconds = "" if cost["seconds"] is None else f"{cost['seconds']:.2f}"
    if seconds and cost["least"] is not None and cost["most"] is not None:
        seconds += f" ({cost['least']:.1f}–{cost['most']:.1f})"
    calls = ["" if cost[key] is None else sentences.amount(cost[key]) for key in ("raw", "calls")]
    return [seconds, *calls, "" if cost["memory"] is None else f"{cost['memory']:.0f}"]


def busy_note(section: Section) -> str:
    """Return why methods are not compared by their seconds, "" if they are."""
    if not section.busy:
        return ""
    return (
        "The seconds were measured while other work ran on the machine (images of the same work took up to several "
        "times as long as others; in parentheses, the range of the middle 80 %), so costs are full-size calls: "
        "transformer calls, each counted by the pixels of its stage over those of the image. What a method saves or "
        "adds in attention is not in them."
    )
