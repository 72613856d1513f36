"""Write the table of all runs as CSV (every number), Markdown and LaTeX (rounded)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..metrics.registry import metrics
from ..metrics.types import VOTES, short_title
from ..output.markup import BOOKTABS, align, booktabs, csv_text, tex
from ..output.numbers import with_interval
from ..records.rows import EMBEDDED, Row, grouped, is_embedded
from ..records.tidy import tidy

if TYPE_CHECKING:
    import pandas

COSTS = (("seconds", "s/image", 2), ("calls", "calls", 0), ("peak_memory_mb", "peak MB", 0))


@dataclass
class Marks:
    """What comparisons say of rows: the cells that are best or second best, and the mean rank of each row, as text."""

    found: dict[tuple[int, str], str]  # (id of row, metric) -> "best" | "second"
    ranks: dict[int, str] = field(default_factory=dict)  # id of row -> mean rank with its interval

    def of(self, row: Row, metric: str) -> str:
        """ "best", "second" or ""."""
        return self.found.get((id(row), metric), "")


@dataclass(frozen=True)
class Style:
    """Format of marked values and text in a table, and whether the first cell has the notes on a row."""

    best: str
    second: str
    sign: Callable[[str], str]
    row_notes: bool

    def mark(self, text: str, mark: str) -> str:
        """A value that is "best", "second" or ""."""
        return {"best": self.best, "second": self.second, "": "{}"}[mark].format(text)


MARKDOWN = Style("**{}**", "<u>{}</u>", str, row_notes=True)
LATEX = Style(r"\textbf{{{}}}", r"\underline{{{}}}", tex, row_notes=False)


def columns(rows: list[Row]) -> list[str]:
    """Return the metrics that any row has, in the order of declaration."""
    present = {name for row in rows for name in row.block["metrics"]}
    return [name for name in metrics() if name in present]


def to_csv(rows: list[Row]) -> str:
    """Return every value with its interval and count. A missing value has a reason beside it."""
    return csv_text(wide(rows))


def wide(rows: list[Row]) -> pandas.DataFrame:
    """Return one row per run, with the columns of each metric side by side."""
    import pandas

    found = tidy(rows)
    whole = found[found["part"] == ""]
    runs = whole[~whole.index.duplicated()]
    table = {key: runs[key] for key in ("model", "protocol", "width", "height", "scale", "method", "run")}
    table |= {"n": runs["images"], "prompts": runs["prompts"]}
    for name in columns(rows):
        metric, cells = metrics()[name], whole[whole["metric"] == name]
        table[name] = cells["value"]
        shown = ["low", "high", "n", "reason", *(["n_reference"] if metric.is_of_set and metric.references else [])]
        table |= {f"{name}_{key}": cells[key] for key in shown + (["std"] if metric.kind in ("kid", "is") else [])}
        for part in metric.parts:
            table[f"{name}_{part}"] = found[(found["metric"] == name) & (found["part"] == part)]["value"]
    table |= {key: runs[key] for key, _, _ in COSTS}
    table["crop"] = pandas.Series([_crop_title(row) for row in rows])
    table["warnings"] = pandas.Series(["; ".join(_warnings(row)) for row in rows])
    return pandas.DataFrame(table)


def _crop_title(row: Row) -> str:
    """Return the title of the first distance of crops. It contains their number and size."""
    names = [name for name in columns([row]) if metrics()[name].measure == "patches"]
    return row.cell(names[0]).get("title", "") if names else ""


def _warnings(row: Row) -> list[str]:
    return row.notes + sorted({cell["warning"] for cell in row.block["metrics"].values() if "warning" in cell})


def short(name: str, rows: list[Row]) -> str:
    """Return the title of a metric without its options, under the protocol of the rows."""
    return short_title(metrics()[name], rows[0].block["settings"])


def heading(name: str, rows: list[Row]) -> str:
    """Return the title of a column with the better direction."""
    titles = [row.cell(name)["title"] for row in rows if "title" in row.cell(name)]
    metric = metrics()[name]
    unit = f", {metric.unit}" if metric.unit == "dB" else ""
    return f"{titles[0] if titles else metric.title}{unit} {'↑' if metric.higher_is_better else '↓'}"


def cell_text(row: Row, name: str, notes: dict[str, int]) -> str:
    """Return a cell as text: `41.2 ±3.4` or `0.7 [0.2, 2.6]`, FID with its N, a letter of a note for no value."""
    cell = row.cell(name)
    if "value" not in cell:
        return f"– ({_note(cell['reason'], notes)})"
    text = with_interval(cell, cell["digits"])
    if metrics()[name].kind in ("fid", VOTES):
        text += f" (N={cell['n']})"
    return text + (f" ({_note(cell['warning'], notes)})" if "warning" in cell else "")


def _note(text: str, notes: dict[str, int]) -> str:
    return _letter(notes.setdefault(text, len(notes)) % 26)


def _letter(k: int) -> str:
    return chr(ord("a") + k)


def text_table(
    rows: list[Row], notes: dict[str, int], marks: Marks | None = None, style: Style = MARKDOWN
) -> pandas.DataFrame:
    """Return the cells of one model and protocol as text. Reasons and warnings are added to `notes`."""
    import pandas

    names = columns(rows)
    ranks = [marks.ranks.get(id(row), "") for row in rows] if marks else []
    rank = ["mean rank ↓"] if any(ranks) else []
    head = ["size", "method", "N", *(heading(name, rows) for name in names), *rank, *(title for _, title, _ in COSTS)]
    body = []
    for k, row in enumerate(rows):
        cells = [style.sign(cell_text(row, name, notes)) for name in names]
        if marks:
            cells = [style.mark(text, marks.of(row, name)) for name, text in zip(names, cells, strict=True)]
        if row.notes and style.row_notes:
            cells[0] += f" ({_note('; '.join(row.notes), notes)})"
        cells += [style.sign(ranks[k])] if rank else []
        body.append([style.sign(row.size), style.sign(row.label), str(row.block["n"]), *cells, *costs(row)])
    return pandas.DataFrame(body, columns=head)


def to_markdown(rows: list[Row], marks: Marks | None = None) -> str:
    """Return one section per model and protocol: the table, its notes, and an explanation of the numbers."""
    parts = []
    for (model, protocol), group in grouped(rows).items():
        notes: dict[str, int] = {}
        table = text_table(group, notes, marks)
        lines = [f"## {model}, protocol {protocol}\n", align(list(table), table.to_numpy().tolist())]
        lines += [parts_table(name, group) for name in columns(group) if metrics()[name].parts]
        if notes:
            lines.append("\n".join(f"({_letter(k)}) {note}  " for note, k in notes.items()) + "\n")
        lines.append(explanation(group, marks))
        parts.append("\n".join(lines))
    return "\n".join(parts)


def parts_table(name: str, rows: list[Row]) -> str:
    """Return a table of the parts of a metric, such as the accuracy of each attribute."""
    parts, digits = metrics()[name].parts, metrics()[name].digits
    body = []
    for row in rows:
        found = row.cell(name).get("parts", {})
        values = [with_interval(found[part], digits) if part in found else "" for part in parts]
        body.append([row.size, row.label, *values])
    return align(["size", "method", *parts], body)


def costs(row: Row) -> list[str]:
    """Return the cost columns, "" for a cost that was not recorded."""
    cost = row.block["cost"]
    cells = {key: "" if cost.get(key) is None else f"{cost[key]:.{digits}f}" for key, _, digits in COSTS}
    if "full_calls" in cost:  # a cache left out blocks
        cells["calls"] += f" ({cost['full_calls']:.1f} in full)"
    return list(cells.values())


def explanation(rows: list[Row], marks: Marks | None) -> str:
    """Return an explanation of the model, the intervals, the references and each metric."""
    settings = rows[0].block["settings"]
    level = f"{settings['bootstrap']['level']:.0%}"
    lines = [EMBEDDED + "\n"] if is_embedded(rows) else []
    lines.append(
        f"± is half the width of a {level} interval over prompts, or [low, high] its ends where ± would mislead: "
        f"bootstrap for means ({settings['bootstrap']['samples']} resamples), jackknife for distances (of the "
        "logarithm of FID, which can't be negative; KID and CMMD are unbiased and may be). References are held fixed. "
        "Seconds are the median of an image, memory is the peak."
    )
    if marks and marks.found:
        lines.append(
            "Bold is the best and underlined the second best of a size, if it is better than every method with a worse "
            "value in a paired test, corrected for their number (Holm)."
        )
    if marks and any(id(row) in marks.ranks for row in rows):
        lines.append("The mean rank is over the metrics with a better direction that every method has (`ranks.md`).")
    for row in rows:
        reference = row.block.get("reference")
        if reference:
            world = reference["kind"] == "world"
            what = "renders of the same captions" if world else "images of the reference folder"
            lines.append(f"References at {row.size}: {reference['n']} {what}.")
    if uneven(rows):
        lines.append(
            "Rows of one size with different N have different prompts and references: compare them with the true "
            "renders of the same N; `paired.md` compares methods on the prompts they share."
        )
    lines = list(dict.fromkeys(lines))
    about = [f"- {short(name, rows)}: {metrics()[name].about}." for name in columns(rows) if metrics()[name].about]
    return "\n".join(lines) + "\n\n" + "\n".join(about) + "\n"


def uneven(rows: list[Row]) -> bool:
    """Return whether methods of one size were scored on different numbers of images."""
    counts: dict[tuple[str, str, str], set[int]] = {}
    for row in rows:
        if not row.is_reference:
            counts.setdefault(row.group, set()).add(row.block["n"])
    return any(len(found) > 1 for found in counts.values())


def to_latex(rows: list[Row], marks: Marks | None = None) -> str:
    """Return booktabs tables, one per model and protocol, with a rule between sizes."""
    parts = []
    for (model, protocol), group in grouped(rows).items():
        notes: dict[str, int] = {}
        table = text_table(group, notes, marks, LATEX)
        words = [f"({_letter(k)}) {note}." for note, k in notes.items()]
        caption = f"{model}, protocol {protocol}. {EMBEDDED if is_embedded(group) else ''} {' '.join(words)}"
        parts.append(booktabs(list(table), table.to_numpy().tolist(), caption.strip()))
    return BOOKTABS + "\n".join(parts)
