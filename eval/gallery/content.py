"""The content of the gallery as plain data: prompts, runs with their scores and win rates, images with their values.

`data.js` holds it for the page. Every text in it is data: the page shows it as text, never as HTML.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..metrics.registry import metrics
from ..metrics.statistics import Estimate, win_rate
from ..records.rows import EMBEDDED, Row, is_embedded
from ..records.runs import Key, Run
from .opening import PLAIN, opening
from .tiles import TILE, identity, levels

SECONDS = {"name": "seconds", "title": "seconds", "better": -1, "digits": 2, "unit": "s", "each": True}


@dataclass(frozen=True)
class Score:
    """A score of the page. `measure` names the value of an image in `scores.jsonl`; "" if it is of a set only."""

    entry: dict[str, Any]
    measure: str = ""


def data(rows: list[Row], missing: set[Path]) -> dict[str, Any]:
    """Return the content of the page. Images in `missing` are left out.

    `scores` lists what is measured, and whether a higher value is better (1), a lower one (-1), or neither (0). The
    `values` of an image are in that order, null where it has none. `scores` of a run are [value, low, high] by name,
    `wins` the same of the share of images on which it is better than `base`, the plain method of its group.
    """
    rows = [row for row in rows if row.run.width]
    several = len({row.protocol for row in rows}) > 1
    scores = _scores(rows)
    prompts: dict[tuple[str, int, str], int] = {}
    labels = {id(row): f"{row.label}, {row.protocol}" if several else row.label for row in rows}
    plain = {row.group: row for row in reversed(rows) if row.label == PLAIN}
    runs, images = [], []
    for number, row in enumerate(rows):
        base = plain.get(row.group)
        runs.append(_run(row, labels[id(row)], scores))
        if base is not None and base is not row and not row.is_reference:
            runs[-1] |= {"base": labels[id(base)], "wins": _wins(row, base, scores)}
        values = {score.measure: row.values(score.measure) for score in scores if score.measure}
        for key, image in row.images.items():
            if image.path in missing:
                continue
            place = prompts.setdefault((*key, image.prompt or key[0]), len(prompts))
            found = [values[score.measure].get(key) if score.measure else None for score in scores]
            if scores and scores[-1].entry is SECONDS:
                found[-1] = image.cost.get("seconds")
            size = [row.run.width, row.run.height]
            shown = {"run": number, "prompt": place, "id": identity(image), "values": [_rounded(v) for v in found]}
            images.append(shown | {"size": size, "levels": levels(*size)})
    note = EMBEDDED if is_embedded(rows) else ""
    if any(max(image["size"]) > TILE for image in images):
        note += f" Images above {TILE} px are shown as WebP of quality 90; the store has them lossless."
    return {
        "tile": TILE,
        "note": note.strip(),
        "prompts": [{"key": f"{key[0]}-{key[1]}", "seed": key[1], "text": key[2]} for key in prompts],
        "scores": [score.entry for score in scores],
        "runs": runs,
        "images": images,
        "opening": _openings(rows, labels, {key[:2]: place for key, place in prompts.items()}),
        "sizes": _sizes(rows),
    }


def settings(run: Run) -> dict[str, str]:
    """Return the settings of a run that are shown under an image."""
    found = {key: run.identity[key] for key in ("steps", "guidance", "schedule") if run.identity.get(key) is not None}
    found |= {k: v for k, v in run.identity.get("method", {}).items() if k != "name" and k not in found}
    return {**{k: str(v) for k, v in found.items()}, "run": run.hash}


def _scores(rows: list[Row]) -> list[Score]:
    """The scores that any row or image has, in the order of the tables, and the time of an image."""
    sets = {name for row in rows for name, cell in row.block["metrics"].items() if "value" in cell}
    single = {name for row in rows for line in row.scored for name, v in line["values"].items() if v is not None}
    found: list[Score] = []
    for name, metric in metrics().items():
        measure = metric.value if not metric.is_distance and metric.value in single else ""
        if name in sets or (measure and measure not in {score.measure for score in found}):
            better = (1 if metric.higher_is_better else -1) if metric.ranked else 0
            entry = {"name": name, "title": metric.title, "digits": metric.digits, "unit": metric.unit}
            found.append(Score(entry | {"better": better, "each": bool(measure)}, measure))
    if any(image.cost.get("seconds") is not None for row in rows for image in row.run.images):
        found.append(Score(SECONDS))
    return found


def _run(row: Row, label: str, scores: list[Score]) -> dict[str, Any]:
    cells = {score.entry["name"]: row.cell(score.entry["name"]) for score in scores}
    found = {n: [_rounded(c.get(k)) for k in ("value", "low", "high")] for n, c in cells.items() if "value" in c}
    seconds = (row.block.get("cost") or {}).get("seconds")
    if seconds is not None:
        found["seconds"] = [_rounded(seconds), None, None]
    about = {"label": label, "model": row.run.model, "size": [row.run.width, row.run.height], "n": row.block["n"]}
    return about | {"reference": row.is_reference, "settings": settings(row.run), "scores": found}


def _wins(row: Row, base: Row, scores: list[Score]) -> dict[str, list[float | None]]:
    """Win rates of a row against its base for the ranked scores of single images."""
    sampling = row.block["settings"].get("bootstrap", {})
    options = {key: sampling[key] for key in ("samples", "level", "seed") if key in sampling}
    found = {}
    for score in scores:
        if score.measure and score.entry["better"]:
            a, b = row.values(score.measure), base.values(score.measure)
            rate: Estimate | None = win_rate(a, b, score.entry["better"] > 0, **options)
            if rate is not None:
                found[score.entry["name"]] = [_rounded(v) for v in (rate.value, rate.low, rate.high)]
    return found


def _openings(rows: list[Row], labels: dict[int, str], places: dict[Key, int]) -> dict[str, Any]:
    """The pair and the prompt to open on, by "model size"."""
    found = {}
    for group in dict.fromkeys((row.run.model, row.size) for row in rows):
        pair = opening([row for row in rows if (row.run.model, row.size) == group])
        if pair is not None and pair[2] in places:
            found[" ".join(group)] = {"methods": [labels[id(row)] for row in pair[:2]], "prompt": places[pair[2]]}
    return found


def _sizes(rows: list[Row]) -> dict[str, str]:
    """The size to open on, by model: of those above the training side the one with most images, then the largest."""
    found: dict[str, tuple[tuple[bool, int], str]] = {}
    for row in rows:
        place = ((row.scale or 2) > 1, len(row.run.images))
        if not row.is_reference and place >= found.get(row.run.model, (place, ""))[0]:
            found[row.run.model] = (place, row.size)
    return {model: size for model, (_, size) in found.items()}


def _rounded(value: float | None) -> float | None:
    """A value with five significant digits: more than is shown, and few bytes."""
    return None if value is None else float(f"{value:.5g}")
