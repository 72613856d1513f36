"""Load the values of the papers and join them with our runs.

A paper's protocol is not ours (README in `eval/published/`), so a difference needs an explanation; it is not a score.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from ..metrics.registry import metrics
from ..metrics.types import OTHERS
from ..records.rows import Row
from .mapping import Answer, answer, label, mapping

FOLDER = Path(__file__).parent
FAMILIES = {"FLUX": "flux", "Qwen-Image": "qwen"}
"""First words of the papers' model names, and our name of the model."""
NAMES = {"FID": "fid", "KID": "kid", "patch_FID": "patch_fid", "patch_KID": "patch_kid", "CLIP_score": "clip_score"}
"""Metrics that we have too. `latency_s` is compared with our seconds per image."""
NAMES |= {"IS": "is", "patch_IS": "patch_is", "ImageReward": "imagereward", "PickScore": "pickscore"}


@dataclass(frozen=True)
class Value:
    """One published number. `text` has the printed digits; `value` is on our scale."""

    paper: str
    table: str
    model: str
    printed: str  # name of the method
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
        """Return our name of the model, "" for a model that we do not run."""
        return next((ours for theirs, ours in FAMILIES.items() if self.model.startswith(theirs)), "")

    @property
    def answer(self) -> Answer:
        """Return how its row is run here."""
        return answer(self.paper, self.table, self.model, self.printed)

    @property
    def method(self) -> str:
        """Return our label of its method: of the runs that may stand beside it. The printed name if there are none."""
        if self.answer.run:
            return label(self.answer.run)
        ours_elsewhere = self.printed in mapping()["methods"]
        return f"{self.printed}, table {self.table}" if ours_elsewhere else self.printed


def load() -> list[Value]:
    """Return every published value."""
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
                        row["method"],
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
    """The papers' values and ours, if we have one, of one model, size, method and metric."""

    model: str
    size: str
    method: str
    metric: str
    values: tuple[Value, ...]
    ours: Row | None = None
    dataset: str = ""  # of the values of the paper a table is made for

    @property
    def spread(self) -> float | None:
        """Difference between the largest and the smallest value of the papers. None for one paper."""
        numbers = [v.value for v in self.values]
        return max(numbers) - min(numbers) if len({v.paper for v in self.values}) > 1 else None


def papers() -> dict[str, str]:
    """Return the names of the files in `eval/published` with the name of their paper."""
    found = {}
    for path in sorted(FOLDER.glob("*.csv")):
        with path.open(newline="") as file:
            found[path.stem] = next(csv.DictReader(file))["paper"]
    return found


def join(rows: list[Row], values: list[Value] | None = None, protocol: str = "") -> list[Joined]:
    """Group published values by model, size, method and metric, and add our run of the same three.

    If a run was scored under several protocols, the one named `protocol` is used. Imported images are not ours, and
    distances on another network than FID's are left out.
    """
    rows = [row for row in rows if row.block.get("settings", {}).get("features") not in OTHERS]
    rows = sorted((row for row in rows if not row.run.is_imported), key=lambda row: row.protocol == protocol)
    ours = {(row.run.model, row.size, row.label): row for row in rows}
    groups: dict[tuple[str, str, str, str], list[Value]] = {}
    for value in load() if values is None else values:
        if value.family and "ablation" not in value.notes:
            groups.setdefault((value.family, value.size, value.method, value.metric), []).append(value)
    found = [Joined(*key, tuple(group), ours.get(key[:3])) for key, group in groups.items()]
    order = list(metrics())
    return sorted(found, key=lambda j: (j.model, _area(j.size), j.size, _order(j.metric, order), j.method))


def of_paper(joined: list[Joined], paper: str) -> list[Joined]:
    """Return the entries of one paper, one per data set, with the values of other papers beside them."""
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
