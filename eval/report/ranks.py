"""Rank the methods of each model and size over all ranked metrics, with the uncertainty of the prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics.inference import least_pairs
from ..metrics.registry import metrics
from ..metrics.statistics import draws, folds, quantiles
from ..metrics.types import Metric
from ..output.markup import align, csv_text
from ..records.rows import EMBEDDED, Row, is_embedded
from ..records.runs import Key
from ..records.tidy import by_image
from .compare import Comparison, groups
from .tables import columns

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Ranks:
    """Ranks of the rows of one group.

    `table` has a row per method, the best first: rank (the mean over metrics), low, high, and the rank by each metric
    under its name; its index is the place of the method in `rows`. `left_out` are methods with other prompts.
    """

    rows: list[Row]
    table: pandas.DataFrame
    metrics: list[str]
    prompts: int
    left_out: list[str]

    def text(self) -> dict[int, str]:
        """Return the mean rank of each row with its interval, by id of the row."""
        return {id(self.rows[k]): shown(*self.table.loc[k, ["rank", "low", "high"]]) for k in self.table.index}


def rank(rows: list[Row], compare: Comparison) -> list[Ranks]:
    """Return the ranks of each group that has at least two methods with the same three prompts."""
    found = (_rank(group, compare) for group in groups(rows))
    return [item for item in found if item is not None]


def _rank(group: list[Row], compare: Comparison) -> Ranks | None:
    """Resample the prompts of all methods together, and rank the methods in each resample.

    The prompts are those that most methods have. A resample of a distance is the one that its jackknife says to first
    order, because images that are repeated raise FID.
    """
    import pandas

    keys = [frozenset((item["prompt_id"], item["seed"]) for item in row.scored) for row in group]
    wanted = {own for own in keys if own}
    if not wanted:
        return None
    common = max(wanted, key=lambda own: (sum(own <= other for other in keys), len(own), sorted(own)))
    rows = [row for row, own in zip(group, keys, strict=True) if common <= own]
    prompts = sorted({prompt for prompt, _ in common})
    if len(rows) < 2 or len(prompts) < 3:
        return None
    options = rows[0].block["settings"]["bootstrap"]
    images = tuple(sorted(common))
    fold = folds([prompt for prompt, _ in images], options["distance_samples"], options["seed"])
    taken = draws(int(fold.max()) + 1, options["samples"], options["seed"])
    observed: dict[str, Any] = {}
    resampled = []
    for name in columns(rows):
        values = _values(rows, metrics()[name], images, fold, taken, compare) if metrics()[name].ranked else None
        if values is not None:
            up = not metrics()[name].higher_is_better
            observed[name] = pandas.Series(values[0]).rank(ascending=up)
            resampled.append(pandas.DataFrame(values[1]).rank(axis=1, ascending=up))
    if not observed:
        return None
    table = pandas.DataFrame(observed)
    table.insert(0, "rank", table.mean(axis=1))
    table[["low", "high"]] = [quantiles(column, options["level"]) for column in np.mean(resampled, 0).T]
    if len(prompts) < least_pairs(1, 1 - options["level"]):
        table[["low", "high"]] = np.nan
    others = [row.label for row in group if row not in rows]
    return Ranks(rows, table.sort_values("rank", kind="stable"), list(observed), len(prompts), others)


def _values(
    rows: list[Row], metric: Metric, images: tuple[Key, ...], fold: np.ndarray, taken: np.ndarray, compare: Comparison
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the values [methods] and [resamples, methods] of a metric. None if a method has no value of some image."""
    if metric.is_distance:
        found = [compare.left_out(row, metric, images) for row in rows]
        if any(item is None for item in found) or len({compare.reference_name(row) for row in rows}) > 1:
            return None
        values = np.array([item[0] for item in found if item])
        left_out = np.array([item[1] for item in found if item])
        parts = left_out.shape[1]
        influence = (left_out.mean(1, keepdims=True) - left_out) * (parts - 1) / parts
        return values, values + (taken - 1) @ influence.T
    if metric.kind == "harmonic" or any("value" not in row.cell(metric.name) for row in rows):
        return None
    table = by_image(rows, metric.value).reindex(list(images))
    if table.isna().any(axis=None):
        return None
    sums = table.groupby(fold).sum().to_numpy()
    counts = np.bincount(fold)[:, None]
    return sums.sum(0) / counts.sum(), (taken @ sums) / (taken @ counts)


def shown(rank: float, low: float, high: float) -> str:
    """Format a mean rank with its interval, if it has one."""
    return f"{rank:.1f}" if np.isnan(low) else f"{rank:.1f} [{low:.1f}, {high:.1f}]"


def to_csv(found: list[Ranks]) -> str:
    """Return one row per method: its mean rank with the interval, and its rank by each metric."""
    import pandas

    tables = []
    for item in found:
        names = ["model", "protocol", "size"]
        about = pandas.DataFrame([item.rows[0].group] * len(item.table), columns=names, index=item.table.index)
        about["method"] = [item.rows[k].label for k in item.table.index]
        about["prompts"] = item.prompts
        tables.append(about.join(item.table[["rank", "low", "high", *item.metrics]]))
    return csv_text(pandas.concat(tables))


def to_markdown(found: list[Ranks]) -> str:
    """Return a table for each model, protocol and size, the best method first."""
    parts = []
    for item in found:
        model, protocol, size = item.rows[0].group
        head = ["method", "mean rank", *(metrics()[name].title for name in item.metrics)]
        body = [
            [item.rows[k].label, shown(line["rank"], line.low, line.high), *(f"{line[n]:g}" for n in item.metrics)]
            for k, line in item.table.iterrows()
        ]
        lines = [f"## {model}, protocol {protocol}, {size}: {item.prompts} prompts\n", align(head, body)]
        if item.left_out:
            lines.append(f"Without {', '.join(item.left_out)}, made with other prompts.\n")
        lines += [EMBEDDED + "\n"] if is_embedded(item.rows) else []
        parts.append("\n".join(lines))
    text = (
        "The mean rank is over the columns, which are all metrics with a better direction that every method has, but\n"
        "for those of a whole set that are no distance (IS, precision and so on); 1 is the best, and equal values\n"
        "share their rank. Metrics that measure much the same (FID and KID) count each.\n"
        "The interval is of a bootstrap over prompts, of all methods and metrics together, and absent where prompts\n"
        "are too few for any verdict; distances are resampled to first order, by their jackknife.\n"
    )
    return "\n".join(parts) + "\n" + text
