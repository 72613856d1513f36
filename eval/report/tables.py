"""The joined table, as CSV (every number), Markdown and LaTeX (for people)."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from ..metrics.registry import METRICS, number
from ..output.markup import BOOKTABS, align, booktabs, tex
from ..records.rows import Row

EMBEDDED = (
    "These numbers show a property of the small embedded model and its rendered world only, not of FLUX or Qwen-Image."
)
COSTS = (("seconds", "s/image", 2), ("calls", "calls", 0), ("peak_memory_mb", "peak MB", 0))


@dataclass
class Marks:
    """Which cells are best and second best beyond their intervals: {(id of row, metric): "best" | "second"}."""

    found: dict[tuple[int, str], str]

    def of(self, row: Row, metric: str) -> str:
        """ "best", "second" or ""."""
        return self.found.get((id(row), metric), "")


def columns(rows: list[Row]) -> list[str]:
    """Metrics that any row has, in the order of their declaration."""
    present = {name for row in rows for name in row.block["metrics"]}
    return [name for name in METRICS if name in present]


def to_csv(rows: list[Row]) -> str:
    """Every value with its interval and count; an empty value has its reason beside it."""
    names = columns(rows)
    header = ["model", "protocol", "width", "height", "scale", "method", "run", "n", "prompts"]
    for name in names:
        header += [name, f"{name}_low", f"{name}_high", f"{name}_n", f"{name}_reason"]
        header += [f"{name}_n_reference"] if METRICS[name].kind in ("fid", "kid", "cmmd") else []
        header += [f"{name}_std"] if METRICS[name].kind == "kid" else []
        header += [f"{name}_{part}" for part in METRICS[name].parts]
    header += [key for key, _, _ in COSTS] + ["crop", "warnings"]
    file = io.StringIO()
    writer = csv.DictWriter(file, header, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        record: dict[str, Any] = {
            "model": row.run.model,
            "protocol": row.protocol,
            "width": row.run.width,
            "height": row.run.height,
            "scale": row.scale,
            "method": row.label,
            "run": row.run.hash,
            "n": row.block["n"],
            "prompts": row.block["prompts"],
            "warnings": "; ".join(_warnings(row)),
            "crop": row.block["metrics"].get("patch_fid", row.block["metrics"].get("patch_kid", {})).get("title", ""),
        }
        for name in names:
            cell = row.cell(name)
            record |= {name: cell.get("value"), f"{name}_n": cell.get("n"), f"{name}_reason": cell.get("reason")}
            record |= {f"{name}_{end}": cell.get(end) for end in ("low", "high")}
            record |= {f"{name}_{key}": cell[key] for key in ("std", "n_reference") if key in cell}
            record |= {f"{name}_{part}": value["value"] for part, value in cell.get("parts", {}).items()}
        record |= {key: row.block["cost"].get(key) for key, _, _ in COSTS}
        writer.writerow({key: value for key, value in record.items() if key in header})
    return file.getvalue()


def _warnings(row: Row) -> list[str]:
    return row.notes + sorted({cell["warning"] for cell in row.block["metrics"].values() if "warning" in cell})


def grouped(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by (model, protocol)."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.run.model, row.protocol), []).append(row)
    return groups


def heading(name: str, rows: list[Row]) -> str:
    """Column title with the direction that is better."""
    titles = [row.cell(name)["title"] for row in rows if "title" in row.cell(name)]
    metric = METRICS[name]
    unit = f", {metric.unit}" if metric.unit == "dB" else ""
    return f"{titles[0] if titles else metric.title}{unit} {'↑' if metric.higher_is_better else '↓'}"


def cell_text(row: Row, name: str, notes: dict[str, int]) -> str:
    """`41.2 ±3.4`: half the width of the interval; FID with its N; an empty cell as a letter of a note."""
    cell = row.cell(name)
    if "value" not in cell:
        return f"– ({_note(cell['reason'], notes)})"
    text = with_interval(cell, cell["digits"])
    if METRICS[name].kind == "fid":
        text += f" (N={cell['n']})"
    return text + (f" ({_note(cell['warning'], notes)})" if "warning" in cell else "")


def _note(text: str, notes: dict[str, int]) -> str:
    return chr(ord("a") + (notes.setdefault(text, len(notes)) % 26))


def to_markdown(rows: list[Row], marks: Marks | None = None) -> str:
    """One section for each model and protocol: the table, what its letters mean, and what the numbers are."""
    parts = []
    for (model, protocol), group in grouped(rows).items():
        notes: dict[str, int] = {}
        names = columns(group)
        head = ["size", "method", "N", *(heading(name, group) for name in names), *(title for _, title, _ in COSTS)]
        body = []
        for row in group:
            cells = [cell_text(row, name, notes) for name in names]
            if marks:
                shape = {"best": "**{}**", "second": "<u>{}</u>", "": "{}"}
                cells = [shape[marks.of(row, n)].format(text) for n, text in zip(names, cells, strict=True)]
            if row.notes:
                cells[0] += f" ({_note('; '.join(row.notes), notes)})"
            body.append([row.size, row.label, str(row.block["n"]), *cells, *costs(row)])
        lines = [f"## {model}, protocol {protocol}\n", align(head, body)]
        lines += [parts_table(name, group) for name in names if METRICS[name].parts]
        if notes:
            lines.append("\n".join(f"({chr(ord('a') + k)}) {note}  " for note, k in notes.items()) + "\n")
        lines.append(explanation(model, protocol, group, marks))
        parts.append("\n".join(lines))
    return "\n".join(parts)


def parts_table(name: str, rows: list[Row]) -> str:
    """The parts of a metric, such as the accuracy of each attribute."""
    parts, digits = METRICS[name].parts, METRICS[name].digits
    body = []
    for row in rows:
        found = row.cell(name).get("parts", {})
        values = [with_interval(found[part], digits) if part in found else "" for part in parts]
        body.append([row.size, row.label, *values])
    return align(["size", "method", *parts], body)


def with_interval(cell: dict[str, Any], digits: int) -> str:
    """`41.2 ±3.4`: a value, and half the width of its interval where there is one."""
    text = number(cell["value"], digits)
    if cell["low"] is None:
        return text
    return f"{text} ±{(cell['high'] - cell['low']) / 2:.{len(text.partition('.')[2])}f}"


def costs(row: Row) -> list[str]:
    """Cost columns, "" where nothing was recorded."""
    cost = row.block["cost"]
    return ["" if cost.get(key) is None else f"{cost[key]:.{digits}f}" for key, _, digits in COSTS]


def explanation(model: str, protocol: str, rows: list[Row], marks: Marks | None) -> str:
    """What a reader must know: what the model is, intervals, references, each metric."""
    settings = rows[0].block["settings"]
    level = f"{settings['bootstrap']['level']:.0%}"
    lines = [EMBEDDED + "\n"] if is_embedded(rows) else []
    lines.append(
        f"± is half the width of a {level} interval over prompts: bootstrap for means "
        f"({settings['bootstrap']['samples']} resamples) and FID ({settings['bootstrap']['distance_samples']}), "
        "jackknife for KID and CMMD; references are held fixed. Seconds are the median of a picture, memory is the "
        "peak."
    )
    if marks and marks.found:
        lines.append("Bold is best and underlined second best of a size, where the paired interval leaves no doubt.")
    for row in rows:
        reference = row.block.get("reference")
        if reference:
            world = reference["kind"] == "world"
            what = "renders of the same captions" if world else "pictures of the reference folder"
            lines.append(f"References at {row.size}: {reference['n']} {what}.")
    if uneven(rows):
        lines.append(
            "Rows of one size with another N hold other prompts and references: read them beside the true renders of "
            "their own N; `paired.md` compares methods on the prompts they share."
        )
    lines = list(dict.fromkeys(lines))
    about = [f"- {METRICS[name].title}: {METRICS[name].about}." for name in columns(rows) if METRICS[name].about]
    return "\n".join(lines) + "\n\n" + "\n".join(about) + "\n"


def uneven(rows: list[Row]) -> bool:
    """Whether methods of one size were scored on different numbers of pictures."""
    counts: dict[tuple, set[int]] = {}
    for row in rows:
        if not row.is_reference:
            counts.setdefault(row.group, set()).add(row.block["n"])
    return any(len(found) > 1 for found in counts.values())


def is_embedded(rows: list[Row]) -> bool:
    """Whether these are scores of the embedded model or made with its scorer."""
    return any(row.run.model == "tiny" or "embedded" in row.block.get("networks", {}) for row in rows)


def to_latex(rows: list[Row], marks: Marks | None = None) -> str:
    """booktabs tables, one for each model and protocol, a rule between sizes."""
    parts = []
    for (model, protocol), group in grouped(rows).items():
        notes: dict[str, int] = {}
        names = columns(group)
        head = ["size", "method", "N", *(heading(name, group) for name in names), *(title for _, title, _ in COSTS)]
        shape = {"best": r"\textbf{%s}", "second": r"\underline{%s}", "": "%s"}
        body = []
        for row in group:
            cells = [shape[marks.of(row, n) if marks else ""] % tex(cell_text(row, n, notes)) for n in names]
            body.append([tex(row.size), tex(row.label), str(row.block["n"]), *cells, *costs(row)])
        words = [f"({chr(ord('a') + k)}) {note}." for note, k in notes.items()]
        caption = f"{model}, protocol {protocol}. {EMBEDDED if is_embedded(group) else ''} {' '.join(words)}"
        parts.append(booktabs(head, body, caption.strip()))
    return BOOKTABS + "\n".join(parts)
