"""Compare methods on the same images: paired differences, win rates, and the methods that are significantly best.

Images are paired by prompt and seed and resampled together, so an effect of the prompt on all methods cancels. Verdicts
are of p-values corrected for the comparisons of one model, protocol, size and metric (Holm). Only records are read:
numbers from `scores.jsonl`, distances from stored features and the cached reference arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.distances import fid, mmd, sets
from ..metrics.distances.moments import count, flat
from ..metrics.inference import holm, least_pairs, sign_flip
from ..metrics.registry import metrics
from ..metrics.statistics import (
    Estimate,
    folds,
    harmonic_difference,
    jackknife_error,
    jackknife_interval,
    paired_difference,
    quantiles,
    student_tail,
    win_rate,
)
from ..metrics.types import Metric
from ..output.markup import align, csv_text
from ..output.numbers import measured
from ..records.files import read_arrays
from ..records.rows import EMBEDDED, Row, is_embedded
from ..records.runs import Key
from .tables import Marks, columns, short

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Pair:
    """Difference between a row and its base for one metric. `win` is the share of images on which the row is better.

    `p` is that of this comparison alone, `corrected` the one for all `family` comparisons it belongs to.
    """

    row: Row
    base: Row
    metric: str
    difference: Estimate | None = None
    win: Estimate | None = None
    p: float | None = None
    prompts: int = 0
    corrected: float | None = None
    family: int = 0

    @property
    def is_equal(self) -> bool:
        """Whether there is no difference at all, or none that can be told."""
        d = self.difference
        return d is None or d.value == d.low == d.high == 0

    @property
    def verdict(self) -> str:
        """ "better", "worse", "differs" for a metric without a better direction, or "" if the corrected p is above the
        level or there are too few prompts."""
        d = self.difference
        if d is None or self.corrected is None or self.corrected > _error(self.row) or self.is_short:
            return ""
        return metrics()[self.metric].verdict(d.value)

    @property
    def least(self) -> int:
        """Prompts below which there is no verdict in its family."""
        return least_pairs(self.family, _error(self.row)) if self.family else 0

    @property
    def is_short(self) -> bool:
        """Whether there are too few prompts for a verdict."""
        return self.prompts < self.least


def judged(pairs: list[Pair]) -> list[Pair]:
    """Return the pairs with p-values corrected for their family: all that differ of one size and one metric.

    A comparison without any difference has p = 1 whatever its N, so it is no member of the family (Tarone 1990).
    """
    families: dict[tuple, list[int]] = {}
    for k, pair in enumerate(pairs):
        if pair.p is not None and not pair.is_equal:
            families.setdefault((pair.row.group, pair.metric), []).append(k)
    found = list(pairs)
    for places in families.values():
        for k, corrected in zip(places, holm([pairs[k].p or 0.0 for k in places]), strict=True):
            found[k] = replace(pairs[k], corrected=corrected, family=len(places))
    return found


class Comparison:
    """Compares rows. The distance of a row on a set of images is computed once."""

    def __init__(self, cache: Path):
        self.cache = cache
        self._references: dict[str, dict[str, np.ndarray]] = {}
        self._sets: dict[tuple, tuple[float, np.ndarray]] = {}
        self._left: dict[tuple, tuple[float, np.ndarray]] = {}

    def pair(self, row: Row, base: Row, metric: str) -> Pair:
        """Compare two rows of one group on the images they share."""
        entry = metrics()[metric]
        if "value" not in row.cell(metric) or "value" not in base.cell(metric):
            return Pair(row, base, metric)
        if entry.is_distance:
            return self._distance(row, base, entry)
        if entry.is_of_set:
            return self._of_set(row, base, entry)
        a, b = row.values(entry.value), base.values(entry.value)
        options = _options(row)
        sampling = options["samples"], options["level"], options["seed"]
        win = win_rate(a, b, entry.higher_is_better, *sampling)
        difference = harmonic_difference if entry.kind == "harmonic" else paired_difference
        common = sorted(set(a) & set(b), key=str)
        if not common:
            return Pair(row, base, metric)
        prompts = [key[0] for key in common]
        power = -1 if entry.kind == "harmonic" else 1
        p = sign_flip([a[key] ** power - b[key] ** power for key in common], prompts, options["seed"])
        return Pair(row, base, metric, difference(a, b, *sampling), win, p, len(set(prompts)))

    def _distance(self, row: Row, base: Row, metric: Metric) -> Pair:
        keys = tuple(sorted(set(_keys(row)) & set(_keys(base))))
        prompts = len({key[0] for key in keys})
        same = self.reference_name(row) == self.reference_name(base)
        a, b = (self.left_out(item, metric, keys) if same and prompts > 2 else None for item in (row, base))
        if a is None or b is None:
            return Pair(row, base, metric.name)
        value, left_out = a[0] - b[0], a[1] - b[1]
        difference = jackknife_interval(value, left_out, _options(row)["level"], len(keys))
        error = jackknife_error(left_out)
        p = student_tail(value / error, len(left_out) - 1) if error else float(value == 0)
        return Pair(row, base, metric.name, difference, None, p, prompts)

    def left_out(self, row: Row, metric: Metric, keys: tuple[Key, ...]) -> tuple[float, np.ndarray] | None:
        """Return the distance on these images, and its values without each prompt (or set of prompts, if many).

        None if the features of the row or of its references are not there.
        """
        name = self.reference_name(row)
        reference = self._reference(name).get(metric.measure) if name else None
        if reference is None or metric.measure not in row.arrays:
            return None
        known = (id(row), metric.name, keys)
        if known not in self._left:
            place = {key: k for k, key in enumerate(_keys(row))}
            features = row.arrays[metric.measure][[place[key] for key in keys]].astype(np.float64)
            options = _options(row)
            fold = folds([key[0] for key in keys], options["distance_samples"], options["seed"])
            if metric.kind == "fid":
                frechet = fid.Frechet(reference)
                value, left_out = frechet(flat(features)), frechet.without_each(features, fold)
            else:
                kernel = mmd.gaussian if metric.kind == "cmmd" else mmd.polynomial
                value = mmd.mmd(features, reference, kernel)
                left_out = mmd.without_each(features, fold.tolist(), reference, kernel)
            self._left[known] = value, left_out
        return self._left[known]

    def _of_set(self, row: Row, base: Row, metric: Metric) -> Pair:
        """Compare two values of sets on the images that both rows have, resampled over prompts together.

        p is that of the value over the deviation of its resamples, by Student's t: so few resamples have no small
        share.
        """
        keys = sorted(set(_keys(row)) & set(_keys(base)))
        groups = [key[0] for key in keys]
        prompts = len(set(groups))
        reference = self._shared_reference(row, base, metric) if metric.references else None
        if prompts < 3 or (metric.references and reference is None):
            return Pair(row, base, metric.name)
        found = []
        for item in (row, base):
            place = {key: k for k, key in enumerate(_keys(item))}
            known, settings = (id(item), metric.name, tuple(keys)), item.block["settings"]
            if known not in self._sets:
                features = item.arrays[metric.measure][[place[key] for key in keys]]
                if count(features) < sets.least(metric.kind, settings):
                    return Pair(row, base, metric.name)
                self._sets[known] = sets.compute(metric.kind, features, reference, groups, settings)[:2]
            found.append(self._sets[known])
        value, apart = found[0][0] - found[1][0], found[0][1] - found[1][1]
        low, high = quantiles(apart - apart.mean(), _options(row)["level"])
        difference, error = Estimate(value, value + low, value + high, len(keys)), float(apart.std(ddof=1))
        p = student_tail(value / error, prompts - 1) if error else float(value == 0)
        return Pair(row, base, metric.name, difference, None, p, prompts)

    def _shared_reference(self, row: Row, base: Row, metric: Metric) -> np.ndarray | None:
        """Return the array of the references of both rows, None if they have other ones."""
        identity, other = self.reference_name(row), self.reference_name(base)
        return self._reference(identity).get(metric.measure) if identity and identity == other else None

    def reference_name(self, row: Row) -> str:
        """Return the identity of the references of a row, "" if it has none."""
        return (row.block.get("reference") or {}).get("identity", "")

    def _reference(self, identity: str) -> dict[str, np.ndarray]:
        if identity not in self._references:
            self._references[identity] = read_arrays(self.cache / "references" / f"{identity}.npz")
        return self._references[identity]


def _options(row: Row) -> dict:
    return row.block["settings"]["bootstrap"]


def _error(row: Row) -> float:
    """The share of wrong verdicts that is allowed: 1 minus the level of intervals."""
    return round(1 - _options(row)["level"], 12)


def _keys(row: Row) -> list[Key]:
    arrays = row.arrays
    return [(str(p), int(s)) for p, s in zip(arrays.get("prompt_id", ()), arrays.get("seed", ()), strict=True)]


def groups(rows: list[Row]) -> list[list[Row]]:
    """Return groups of rows that may be compared, in table order, without true renders."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        if not row.is_reference and row.run.width:
            found.setdefault(row.group, []).append(row)
    return list(found.values())


def against_base(rows: list[Row], base: str, compare: Comparison) -> list[Pair]:
    """Compare every row with the base method of its group, and every variant of a method with its default."""
    pairs = []
    for group in groups(rows):
        plain = {row.run.method: row for row in reversed(group) if row.label == row.run.method}
        for row in group:
            others = [plain.get(base), plain.get(row.run.method)]
            for other in dict.fromkeys(other for other in others if other is not None and other is not row):
                pairs += [compare.pair(row, other, name) for name in columns(group)]
    return judged(pairs)


def mark(rows: list[Row], compare: Comparison) -> Marks:
    """Mark best and second best of each group and metric, if they are better than every row with a worse value."""
    found: dict[tuple[int, str], str] = {}
    for group in groups(rows):
        for name in columns(group):
            metric = metrics()[name]
            ranked = [row for row in group if "value" in row.cell(name)]
            if not metric.ranked or len(ranked) < 2:
                continue
            ranked.sort(key=lambda row, n=name: row.cell(n)["value"], reverse=metric.higher_is_better)
            for place, word in ((0, "best"), (1, "second")):
                if not is_better(ranked[place], ranked[place + 1 :], name, compare):
                    break
                found[id(ranked[place]), name] = word
    return Marks(found)


def is_better(row: Row, others: list[Row], metric: str, compare: Comparison) -> bool:
    """Return whether a row is better than each of the others, corrected for their number."""
    pairs = []
    for other in others:
        pair = compare.pair(row, other, metric)
        if pair.p is None or pair.p > _error(row):  # a correction raises p
            return False
        pairs.append(pair)
    return bool(pairs) and all(pair.verdict == "better" for pair in judged(pairs))


ABOUT = ["model", "protocol", "size", "method", "base", "metric"]
NUMBERS = ["difference", "low", "high", "n", "p", "p_holm", "verdict", "win_rate", "win_low", "win_high"]


def frame(pairs: list[Pair]) -> pandas.DataFrame:
    """Return one row per comparison that has a difference: its columns of the CSV, `text` for a cell, and `equal`."""
    import pandas

    body = []
    for pair in pairs:
        d, w = pair.difference, pair.win
        if d is not None:
            about = [*pair.row.group, pair.row.label, pair.base.label, pair.metric]
            wins = [w.value, w.low, w.high] if w else [None] * 3
            numbers = [d.value, d.low, d.high, d.n, pair.p, pair.corrected, pair.verdict, *wins]
            body.append([*about, *numbers, _cell(pair, d), pair.is_equal])
    return pandas.DataFrame(body, columns=[*ABOUT, *NUMBERS, "text", "equal"], dtype=object)


def to_csv(pairs: list[Pair]) -> str:
    """Return one row per pair and metric."""
    return csv_text(frame(pairs)[ABOUT + NUMBERS])


def to_markdown(pairs: list[Pair]) -> str:
    """Return a table for each model, protocol and size: differences with intervals, and win rates."""
    parts = []
    for group, chosen in frame(pairs).groupby(ABOUT[:3], sort=False):
        names, compared = chosen["metric"].unique(), chosen.groupby(["method", "base"], sort=False)
        equal = compared["equal"].all()
        cells = chosen.pivot(index=["method", "base"], columns="metric", values="text")
        cells = cells.reindex(index=equal.index[~equal], columns=names).fillna("")
        cells.insert(0, "pairs", compared["n"].max().astype(str))
        own = [pair for pair in pairs if pair.row.group == group]
        titles = [f"{short(n, [own[0].row])} {'↑' if metrics()[n].higher_is_better else '↓'}" for n in names]
        body = cells.reset_index().to_numpy().tolist()
        lines = [f"## {group[0]}, protocol {group[1]}, {group[2]}\n"]
        lines += [align(["method", "minus", "pairs", *titles], body)] if body else []
        for base, same in equal.index[equal].to_frame(index=False).groupby("base", sort=False)["method"]:
            lines.append(f"Equal to {base} in every value: {', '.join(same)}.\n")
        lines += [few + "\n"] if (few := too_few(own)) else []
        lines += [EMBEDDED + "\n"] if is_embedded([own[0].row]) else []
        parts.append("\n".join(lines))
    if not parts:
        return ""
    text = (
        "Differences on the same prompts and seeds, ± half the width of their interval, or [low, high] its ends\n"
        "(paired bootstrap over prompts; jackknife for distances). A verdict needs p of at most "
        f"{_error(pairs[0].row):g} after Holm's\n"
        "correction for the comparisons of its column, that is of one model, protocol, size and metric. p is that of\n"
        "exchanging the two methods on each prompt (sign flips) for means, and of the jackknife for distances;\n"
        "`paired.csv` has it with and without the correction. The intervals are not corrected. A percentage is the\n"
        "share of images on which the method is better; a tie counts half.\n"
    )
    return "\n".join(parts) + "\n" + text


def too_few(pairs: list[Pair]) -> str:
    """Return one sentence on the comparisons of a table that have too few prompts for a verdict, "" if none has."""
    short = [pair for pair in pairs if pair.is_short]
    if not short:
        return ""
    largest = max(short, key=lambda pair: pair.family)
    who = "" if len(short) == sum(pair.family > 0 for pair in pairs) else f" for {len(short)} of the differences"
    return (
        f"N too small for a verdict{who} ({min(pair.prompts for pair in short)} prompts): at least {largest.least} "
        f"needed with {largest.family} comparisons."
    )


def _cell(pair: Pair, d: Estimate) -> str:
    text = measured(d.value, d.low, d.high, metrics()[pair.metric].digits)
    text = text if d.value < 0 else f"+{text}"
    if pair.win:
        text += f", {pair.win.value:.0%}"
    return f"{text} {pair.verdict}".strip()
