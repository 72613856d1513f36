"""Collect the content of the page from scored runs: scores, costs, provenance, and a verdict on every two methods."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from sega.store.files import read_record

from ..metrics.registry import metrics
from ..records.rows import Row, is_embedded, richest
from ..records.runs import Key, Run
from ..report.compare import Comparison, Pair, judged
from ..report.tables import columns
from .command_of import command_of
from .types import COSTS, Answer, Method, Quality, Section

QUALITY = ("attribute_accuracy", "imagereward", "clip_score", "fid", "spectrum_distance")
"""Metrics that methods are compared by, of those that were scored; without any of them all that have a better end."""
BUSY = 1.5
"""Seconds of the images of a cell are alike where nothing else runs, since each is the same work. Where the slowest
tenth took this many times as long as the quickest, the machine was busy, and the methods of that model are compared by
their calls."""


@dataclass(frozen=True)
class Options:
    """What to compare by and which image to show."""

    cost: str = "auto"  # a key of `COSTS`; auto: seconds, or calls where the machine was busy
    names: tuple[str, ...] = ()  # metrics, instead of `QUALITY`
    prompt: str | None = None  # id of the caption of the images; None: the first that most methods have


def collect(rows: list[Row], cache: Path, chosen: Options) -> Answer:
    """Return the content of the page, in the order of the table."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    rows = richest(rows)  # a run that was scored under several protocols has one place
    for row in rows:
        if row.run.width:
            groups.setdefault(row.group, []).append(row)
    comparison = Comparison(cache)
    busy = {row.run.model for row in rows if not row.is_reference and is_busy(row)}
    sections = [_section(group, rows, comparison, chosen, group[0].run.model in busy) for group in groups.values()]
    return Answer(tuple(sections))


def _section(group: list[Row], rows: list[Row], comparison: Comparison, wanted: Options, busy: bool) -> Section:
    chosen = quality(group, wanted.names)
    pairs = compared(group, [q.name for q in chosen], comparison)
    key = shown(group, rows, wanted.prompt)
    first = group[0]
    prompts = [row.images[key].prompt or key[0] for row in group if key and key in row.images]
    methods = tuple(_method(row, chosen, key) for row in group)
    return Section(
        model=first.run.model,
        protocol=first.protocol,
        size=first.size,
        store="",
        scale=first.scale,
        level=first.block["settings"]["bootstrap"]["level"],
        is_embedded=is_embedded(group),
        busy=busy,
        cost=_cost_key(methods, wanted.cost, busy),
        prompt=prompts[0] if prompts else "",
        quality=chosen,
        methods=methods,
        least=max((pair.least for own in pairs.values() for pair in own), default=0),
        verdicts={f"{i} {j}": _verdict(own) for (i, j), own in pairs.items()},
    )


def quality(group: list[Row], names: tuple[str, ...]) -> tuple[Quality, ...]:
    """Return the metrics to compare by: those of `names`, else those of `QUALITY` that were scored, else all ranked."""
    there = [n for n in columns(group) if any("value" in row.cell(n) for row in group if not row.is_reference)]
    chosen = [name for name in names or QUALITY if name in there]
    found = []
    for name in chosen or [name for name in there if metrics()[name].ranked]:
        metric = metrics()[name]
        title = next((row.cell(name)["title"] for row in group if "title" in row.cell(name)), metric.title)
        found.append(Quality(name, title, metric.unit, metric.higher_is_better, metric.digits))
    return tuple(found)


def compared(group: list[Row], names: list[str], comparison: Comparison) -> dict[tuple[int, int], list[Pair]]:
    """Compare every two methods of a size by every metric, with verdicts corrected for the pairs of a metric."""
    known = [k for k, row in enumerate(group) if not row.is_reference]
    places = [(i, j, name) for i, j in combinations(known, 2) for name in names]
    pairs = judged([comparison.pair(group[i], group[j], name) for i, j, name in places])
    found: dict[tuple[int, int], list[Pair]] = {}
    for (i, j, _), pair in zip(places, pairs, strict=True):
        found.setdefault((i, j), []).append(pair)
    return found


def _verdict(pairs: list[Pair]) -> dict[str, Any]:
    """What the page keeps of the comparisons of two methods."""
    counts = {pair.metric: pair.difference.n for pair in pairs if pair.difference is not None}
    return {
        "n": max(counts.values(), default=0),
        "equal": bool(counts) and all(pair.is_equal for pair in pairs),
        "by": {pair.metric: pair.verdict for pair in pairs if pair.metric in counts and not pair.is_short},
    }


def shown(group: list[Row], rows: list[Row], prompt: str | None = None) -> Key | None:
    """Return the image (prompt id, seed) to show: that of `prompt`, else the first that most rows of the model have."""
    same = [row for row in rows if row.run.model == group[0].run.model and not row.is_reference]
    here = {key for row in group if not row.is_reference for key in row.images}
    counts = {key: sum(key in row.images for row in same) for key in here}
    return min(counts, key=lambda key: (key[0] != prompt, -counts[key], key), default=None)


def is_busy(row: Row) -> bool:
    """Whether the seconds of a cell say that other work ran beside it."""
    seconds = _seconds(row.run)
    return len(seconds) > 1 and bool(np.quantile(seconds, 0.9) > BUSY * np.quantile(seconds, 0.1))


def _seconds(run: Run) -> list[float]:
    return [value for image in run.images if (value := image.cost.get("seconds")) is not None]


def _method(row: Row, chosen: tuple[Quality, ...], key: Key | None) -> Method:
    cost, seconds = row.block["cost"], _seconds(row.run)
    record = read_record(row.run.folder / "run.json") or {}
    image = row.images.get(key) if key else None
    return Method(
        label=row.label,
        method=row.run.method,
        n=row.block["n"],
        scores={q.name: _score(row.cell(q.name)) for q in chosen if "value" in row.cell(q.name)},
        cost={
            "seconds": _rounded(cost.get("seconds")),
            "least": _rounded(float(np.quantile(seconds, 0.1))) if seconds else None,
            "most": _rounded(float(np.quantile(seconds, 0.9))) if seconds else None,
            "raw": _rounded(cost.get("calls")),
            "calls": _rounded(full_size_calls(row.run, cost.get("calls"))),
            "memory": _rounded(cost.get("peak_memory_mb")),
        },
        run=row.run.hash,
        commit=str(record.get("commit") or ""),
        dirty=bool(record.get("dirty")),
        command="" if row.is_reference else command_of(row.run),
        image=image.sha[:16] if image is not None and image.sha else "",
        drawn=not row.is_reference,
    )


def _score(cell: Any) -> dict[str, Any]:
    return {key: _rounded(cell[key]) for key in ("value", "low", "high", "n")}


def _rounded(value: float | None) -> float | None:
    """Six digits: the last ones of a float differ between machines, and the same records must give the same bytes."""
    return None if value is None else float(f"{value:.6g}")


def full_size_calls(run: Run, calls: float | None) -> float | None:
    """Return the transformer calls of an image, each counted by the pixels of its stage over those of the image.

    A call at half the side is a quarter. That attention grows with the square of the pixels, and that some methods
    attend to less than all of them, is not in it.
    """
    stages = run.identity.get("stages")
    if calls is None or not stages or run.size is None:
        return calls
    pixels = [stage["size"][0] * stage["size"][1] for stage in stages]
    taken = [len(range(stage["steps"])[stage["first"] : stage["last"]]) for stage in stages]
    if not sum(taken):
        return None
    whole = run.size[0] * run.size[1]
    return calls / sum(taken) * sum(t * p / whole for t, p in zip(taken, pixels, strict=True))


def _cost_key(methods: tuple[Method, ...], cost: str, busy: bool) -> str:
    """The cost to compare by: the wanted one, else seconds, or calls if these can't be trusted. "" if none is known."""
    order = [cost] if cost in COSTS else (["calls"] if busy else ["seconds", "calls"])
    return next((key for key in order if any(m.cost[key] is not None for m in methods if m.drawn)), "")
