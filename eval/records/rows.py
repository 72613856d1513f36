"""Load the rows of the report: every scored run with its label, in the order of the table. Reads records only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from sega.errors import RequestError
from sega.home import command_line

from ..metrics.types import OTHERS
from .files import read_arrays
from .labels import method_label, method_place, short
from .runs import Key, Run, RunImage, find_runs, select
from .schema import MetricScore, ScoreBlock, ScoreRow
from .scores import are_rows_sound, cut_notes, read_blocks, score_rows

RENDERS = "true renders"
EMBEDDED = (
    "These numbers show a property of the small embedded model and its rendered world only, not of FLUX or Qwen-Image."
)
"""Printed with every table and figure of rows for which `is_embedded` is true."""


NOT_ASKED = cast(MetricScore, {"reason": "not part of the protocol when this run was scored"})


@dataclass(eq=False)
class Row:
    """One scored run under one protocol."""

    run: Run
    protocol: str
    block: ScoreBlock
    label: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def is_reference(self) -> bool:
        """Whether the images are renders and not images of a model."""
        return self.run.method == "renders"

    @property
    def size(self) -> str:
        """Size as in the store, or "several" for images of several sizes."""
        return f"{self.run.width}x{self.run.height}" if self.run.width else "several"

    @property
    def scale(self) -> float | None:
        """Longer side over the training side."""
        native, size = self.block.get("native"), self.run.size
        return max(size) / native if native and size else None

    @property
    def group(self) -> tuple[str, str, str]:
        """Model, protocol and size. Rows with the same group are compared with each other."""
        return self.run.model, self.protocol, self.size

    @property
    def richness(self) -> tuple[bool, int]:
        """Whether its distances are not on another network than FID's, and the number of its metrics."""
        other = self.block.get("settings", {}).get("features") in OTHERS
        return not other, len(self.block["metrics"])

    def cell(self, metric: str) -> MetricScore:
        """Return the cell of a metric. A metric that is not in the protocol has a cell with a reason only."""
        return self.block["metrics"].get(metric, NOT_ASKED)

    @cached_property
    def scored(self) -> list[ScoreRow]:
        """Rows of `scores.jsonl`; [] if they do not belong to the block."""
        sound = are_rows_sound(self.run.folder, self.protocol, self.block)
        return score_rows(self.run.folder, self.protocol) if sound else []

    @cached_property
    def arrays(self) -> dict[str, Any]:
        """Features of the images."""
        return read_arrays(self.run.folder / f"features-{self.protocol}.npz")

    def values(self, measure: str) -> dict[Key, float]:
        """Return the value of each image for a measure of `scores.jsonl`."""
        found = {}
        for row in self.scored:
            value = row["values"].get(measure)
            if value is not None:
                found[row["prompt_id"], row["seed"]] = value["mean"] if isinstance(value, dict) else value
        return found

    @property
    def images(self) -> dict[Key, RunImage]:
        """Images by (prompt id, seed), without the damaged ones."""
        damaged = {item["file"] for item in self.block["damaged"]}
        return {p.key: p for p in self.run.images if self.run.file_of(p) not in damaged}


def load_rows(
    store: Path, cache: Path, model: str | None = None, method: str | None = None, protocol: str | None = None
) -> tuple[list[Row], list[Run]]:
    """Return the scored runs of a store with their held-out renders, in table order, and the runs without scores."""
    runs = find_runs(store)
    if not runs:
        raise RequestError(
            f"no runs in {store}; generate ({command_line('run')}), score ({command_line('eval')}), then report"
        )
    rows: list[Row] = []
    unscored: list[Run] = []
    for run in select(runs, store, model, method):
        found = _blocks(run, protocol)
        rows += found
        if not found:
            unscored.append(run)
    if not rows:
        raise RequestError(f"{len(unscored)} runs in {store} have no scores yet; run {command_line('eval')} first")
    rows += _renders(rows, cache)
    label(rows)
    return sorted(rows, key=_order), unscored


def _blocks(run: Run, protocol: str | None) -> list[Row]:
    found = []
    for name, block in read_blocks(run.folder).items():
        if protocol in (None, name):
            row = Row(run, name, block)
            covered = block["n"] + len(block["damaged"])
            if covered < len(run.images):
                row.notes.append(f"scores cover {covered} of {len(run.images)} images; run {command_line('eval')}")
            if block["damaged"]:
                row.notes.append(f"{len(block['damaged'])} damaged images left out")
            if run.is_imported:
                row.notes.append("images from elsewhere, imported")
            row.notes += cut_notes(block)
            found.append(row)
    return found


def _renders(rows: list[Row], cache: Path) -> list[Row]:
    """Return the held-out renders of the images of each row, once per set of images."""
    wanted = {(row.group, tuple((*p.key, p.prompt) for p in row.run.images)) for row in rows}
    found = []
    for run in find_runs(cache / "renders"):
        keys = tuple((*p.key, p.prompt) for p in run.images)
        found += [row for row in _blocks(run, None) if (row.group, keys) in wanted]
    return found


def label(rows: list[Row]) -> None:
    """Give each row a label: its method, the parameters that are not the default, and other differences between runs.

    If rows of one size have different prompts, each set of prompts has its true renders, labelled with their N.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    renders = Counter(row.group for row in rows if row.is_reference)
    several = {group[:2] for group, count in renders.items() if count > 1}
    for row in rows:
        plain = RENDERS if row.is_reference else method_label(row.run)
        row.label = f"{RENDERS} for N={row.block['n']}" if row.is_reference and row.group[:2] in several else plain
        groups.setdefault((*row.group, row.label), []).append(row)
    for same in groups.values():
        if len(same) > 1:  # a store has one imported cell of a model, method and size
            for row in [row for row in same if row.run.is_imported]:
                row.label += " [imported]"
                same.remove(row)
        if len(same) > 1:
            flat = [flatten(row.run.identity) for row in same]
            keys = sorted({key for item in flat for key in item if not key.startswith("method.")})
            differing = [key for key in keys if len({str(item.get(key)) for item in flat}) > 1]
            for row, item in zip(same, flat, strict=True):
                words = [f"{key}={short(item.get(key))}" for key in differing] or [row.run.hash[:8]]
                row.label += f" [{', '.join(words)}]"


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return a nested dict as one dict, with dotted keys."""
    if not isinstance(value, dict):
        return {prefix[:-1]: value}
    return {key: item for k, v in value.items() for key, item in flatten(v, f"{prefix}{k}.").items()}


def grouped(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """Group rows by (model, protocol)."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.run.model, row.protocol), []).append(row)
    return groups


def richest(rows: list[Row]) -> list[Row]:
    """Return one row for each run, that of its richest protocol, so that its images are shown once."""
    best: dict[Path, Row] = {}
    for row in rows:
        known = best.setdefault(row.run.folder, row)
        if row.richness > known.richness:
            best[row.run.folder] = row
    return sorted(best.values(), key=_order)


def is_embedded(rows: list[Row]) -> bool:
    """Return whether any row is of the embedded model or scored with its scorer."""
    return any(row.run.is_embedded or "embedded" in row.block.get("networks", {}) for row in rows)


def _order(row: Row) -> tuple[Any, ...]:
    run = row.run
    area = (run.width or 0) * (run.height or 0)
    place = method_place(run.method) + row.is_reference
    return run.model, row.protocol, area, row.size, place, run.method, len(row.label), row.label
