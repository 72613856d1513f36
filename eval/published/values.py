"""Published values beside ours: what the papers print, how far they are apart, and the difference to a run.

A paper's protocol is not ours (README in `eval/published/`), so a difference is something to explain, never a score.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from ..metrics.registry import metrics
from ..records.rows import Row

FOLDER = Path(__file__).parent
FAMILIES = {"FLUX": "flux", "Qwen-Image": "qwen"}
"""How the papers' model names begin, and our name of the model."""
METHODS = {"baseline": "vanilla", "dy_yarn": "dype", "dy_ntk": "dype (base=ntk)"}
"""The papers' names of methods that we call differently; DyPE's table says which base it stands on."""
NAMES = {"FID": "fid", "KID": "kid", "patch_FID": "patch_fid", "patch_KID": "patch_kid", "CLIP_score": "clip_score"}
"""Metrics that we have too; `latency_s` stands beside our seconds for an image."""
NAMES |= {"ImageReward": "imagereward", "PickScore": "pickscore"}


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
                found.append(
                    Value(
                        row["paper"],
                        row["table"],
                        row["model"],
                        METHODS.get(row["method"], row["method"]),
                        f"{row['width']}x{row['height']}",
                        NAMES.get(row["metric"], row["metric"]),
                        row["value"],
                        value,
                        row["higher_is_better"] == "true",
                        row["dataset"],
                        row["n_prompts"],
                        row["notes"],
                    )
                )
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
    dataset: str = ""  # of the values of the paper a table is made for

    @property
    def spread(self) -> float | None:
        """Largest less smallest value of different papers; None for one paper."""
        numbers = [v.value for v in self.values]
        return max(numbers) - min(numbers) if len({v.paper for v in self.values}) > 1 else None


def papers() -> dict[str, str]:
    """Names of the files in `eval/published`, and of the paper each holds."""
    found = {}
    for path in sorted(FOLDER.glob("*.csv")):
        with path.open(newline="") as file:
            found[path.stem] = next(csv.DictReader(file))["paper"]
    return found


def join(rows: list[Row], values: list[Value] | None = None, protocol: str = "") -> list[Joined]:
    """Published values grouped by what they measure, each with our run of the same model, size and method.

    Where a run was scored by several protocols, the one named `protocol` counts.
    """
    rows = sorted(rows, key=lambda row: row.protocol == protocol)
    ours = {(row.run.model, row.size, row.label): row for row in rows}
    groups: dict[tuple[str, str, str, str], list[Value]] = {}
    for value in load() if values is None else values:
        if value.family and "ablation" not in value.notes:
            groups.setdefault((value.family, value.size, value.method, value.metric), []).append(value)
    found = [Joined(*key, tuple(group), ours.get(key[:3])) for key, group in groups.items()]
    order = list(metrics())
    return sorted(found, key=lambda j: (j.model, _area(j.size), j.size, _order(j.metric, order), j.method))


def of_paper(joined: list[Joined], paper: str) -> list[Joined]:
    """The entries of one paper, one for each of its data sets, other papers' values kept beside them."""
    found = []
    for j in joined:
        for dataset in dict.fromkeys(v.dataset for v in j.values if v.paper == paper):
            values = tuple(v for v in j.values if v.paper != paper or v.dataset == dataset)
            found.append(replace(j, values=values, dataset=dataset))
    return found


def _area(size: str) -> int:
    width, _, height = size.partition("x")
    return int(width) * int(height) if width.isdigit() and height.isdigit() else 0


def _order(metric: str, known: list[str]) -> tuple[int, str]:
    return (known.index(metric) if metric in known else len(known)), metric
