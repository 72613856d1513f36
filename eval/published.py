"""Published values beside ours: what the papers print, how far they are apart, and the difference to a run.

`python -m eval.published` prints the published values alone. A paper's protocol is not ours (README in
`eval/published/`), so a difference is something to explain, never a score.
"""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from eval.metrics import METRICS, number
from eval.rows import Row
from eval.tables import align

FOLDER = Path(__file__).parent / "published"
FAMILIES = {"FLUX": "flux", "Qwen-Image": "qwen"}
"""How the papers' model names begin, and our name of the model."""
METHODS = {"baseline": "vanilla", "dy_yarn": "dype", "dy_ntk": "dype (base=ntk)"}
"""The papers' names of methods that we call differently; DyPE's table says which base it stands on."""
NAMES = {"FID": "fid", "KID": "kid", "patch_FID": "patch_fid", "patch_KID": "patch_kid", "CLIP_score": "clip_score"}
"""Metrics that we have too."""


@dataclass(frozen=True)
class Value:
    """One printed number. `text` keeps the printed digits; `value` is on our scale."""

    paper: str
    table: str
    model: str
    method: str
    size: str
    metric: str
    text: str
    value: float
    higher_is_better: bool
    dataset: str
    n_prompts: str
    notes: str

    @property
    def family(self) -> str:
        """Our name of the model, "" for one that we don't run."""
        return next((ours for theirs, ours in FAMILIES.items() if self.model.startswith(theirs)), "")


def load() -> list[Value]:
    """Every published value."""
    found = []
    for path in sorted(FOLDER.glob("*.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                value = float(row["value"])
                if row["metric"] == "CLIP_score" and row["paper"] == "UltraImage":
                    value *= 100  # printed on a scale of 0 to 1
                found.append(Value(
                    row["paper"], row["table"], row["model"], METHODS.get(row["method"], row["method"]),
                    f"{row['width']}x{row['height']}", NAMES.get(row["metric"], row["metric"]), row["value"], value,
                    row["higher_is_better"] == "true", row["dataset"], row["n_prompts"], row["notes"],
                ))  # fmt: skip
    return found


@dataclass(frozen=True)
class Joined:
    """One (model, size, method, metric): the papers' values and ours, if we have one."""

    model: str
    size: str
    method: str
    metric: str
    values: tuple[Value, ...]
    ours: Row | None = None

    @property
    def spread(self) -> float | None:
        """Largest less smallest value of different papers; None for one paper."""
        numbers = [v.value for v in self.values]
        return max(numbers) - min(numbers) if len({v.paper for v in self.values}) > 1 else None


def join(rows: list[Row], values: list[Value] | None = None) -> list[Joined]:
    """Published values grouped by what they measure, each with our run of the same model, size and method."""
    ours = {(row.run.model, row.size, row.label): row for row in rows}
    groups: dict[tuple[str, str, str, str], list[Value]] = {}
    for value in load() if values is None else values:
        if value.family and "ablation" not in value.notes:
            groups.setdefault((value.family, value.size, value.method, value.metric), []).append(value)
    found = [Joined(*key, tuple(group), ours.get(key[:3])) for key, group in groups.items()]
    metrics = list(METRICS)
    return sorted(found, key=lambda j: (j.model, _area(j.size), j.size, _order(j.metric, metrics), j.method))


def _area(size: str) -> int:
    width, _, height = size.partition("x")
    return int(width) * int(height) if width.isdigit() and height.isdigit() else 0


def _order(metric: str, known: list[str]) -> tuple[int, str]:
    return (known.index(metric) if metric in known else len(known)), metric


def to_markdown(joined: list[Joined]) -> str:
    """A table for each model and size: our value, each paper's, the differences and the spread between papers."""
    parts = []
    for model, size in dict.fromkeys((j.model, j.size) for j in joined):
        body = []
        chosen = [j for j in joined if (j.model, j.size) == (model, size)]
        papers = list(dict.fromkeys(v.paper for j in chosen for v in j.values))
        for j in chosen:
            cells = []
            for paper in papers:
                own = [v for v in j.values if v.paper == paper]
                cells.append(" / ".join(dict.fromkeys(v.text for v in own)))
            digits = METRICS[j.metric].digits if j.metric in METRICS else 2
            title = METRICS[j.metric].title if j.metric in METRICS else j.metric
            arrow = "↑" if j.values[0].higher_is_better else "↓"
            spread = "" if j.spread is None else number(j.spread, digits)
            body.append([f"{title} {arrow}", j.method, *_ours(j, digits), *cells, spread])
        head = ["metric", "method", "ours", "ours − published", *papers, "spread"]
        parts.append(f"## {model}, {size}\n\n{align(head, body)}\n{_sources(chosen)}")
    return "\n".join(parts)


def _ours(j: Joined, digits: int) -> list[str]:
    cell = j.ours.cell(j.metric) if j.ours and j.metric in METRICS else {}
    if "value" not in cell:
        return ["", ""]
    n = f" (N={cell['n']})" if METRICS[j.metric].kind == "fid" else ""
    differences = [cell["value"] - v.value for v in j.values]
    low, high = number(min(differences), digits), number(max(differences), digits)
    return [f"{number(cell['value'], cell['digits'])}{n}", low if low == high else f"{low} to {high}"]


def _sources(chosen: list[Joined]) -> str:
    lines = []
    for paper in dict.fromkeys(v.paper for j in chosen for v in j.values):
        own = [v for j in chosen for v in j.values if v.paper == paper]
        models, data = (", ".join(dict.fromkeys(getattr(v, key) for v in own)) for key in ("model", "dataset"))
        counts = ", ".join(dict.fromkeys(v.n_prompts for v in own))
        lines.append(f"- {paper}: {models}; {data}; prompts: {counts}.")
    return "\n".join(lines) + "\n"


def to_csv(joined: list[Joined]) -> str:
    """One row a published value, with ours beside it."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["model", "size", "method", "metric", "paper", "table", "published", "ours", "ours_n", "difference",
                     "spread_between_papers", "published_model", "dataset", "n_prompts", "notes"])  # fmt: skip
    for j in joined:
        cell = j.ours.cell(j.metric) if j.ours and j.metric in METRICS else {}
        for v in j.values:
            ours = cell.get("value")
            writer.writerow([j.model, j.size, j.method, j.metric, v.paper, v.table, v.text, ours, cell.get("n"),
                             None if ours is None else ours - v.value, j.spread, v.model, v.dataset, v.n_prompts,
                             v.notes])  # fmt: skip
    return file.getvalue()


READ_WITH_CARE = (
    "Published values keep their printed digits; where a paper prints several for one entry, all stand. FID compares\n"
    "only inside one table: reference sets and counts differ between papers. The spread is the largest less the\n"
    "smallest value of different papers for the same method. `eval/published/README.md` says what each paper did.\n"
)


if __name__ == "__main__":
    sys.stdout.write(to_markdown(join([])) + "\n" + READ_WITH_CARE)
