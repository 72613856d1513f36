"""Say how many prompts a difference of a given size takes, from the spread of the paired differences of a store."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..metrics.inference import difference_seen, pairs_needed
from ..metrics.registry import metrics
from ..output.markup import align, csv_text
from ..output.numbers import number
from ..records.rows import EMBEDDED, Row, is_embedded
from ..records.tidy import by_image
from .compare import groups
from .tables import columns

if TYPE_CHECKING:
    import pandas

ROUND = 3
"""Round differences of each metric: so many below half the difference of the best and the base."""


def power(rows: list[Row], base: str) -> pandas.DataFrame:
    """Return one row per model, protocol, size, ranked metric (means only) and difference.

    Columns: model, protocol, size, metric, base, comparisons (methods that differ from the base), prompts, sd (of the
    paired differences of a prompt; the median of the methods), seen (the smallest difference that these prompts show),
    seen_holm, difference, is_half (whether it is half the difference of the best method and the base), needed (the
    prompts that show it), needed_holm. All with a power of 80 %, at the level of the intervals, alone or as the first
    of Holm's comparisons.
    """
    import pandas

    found = []
    for group in groups(rows):
        plain = next((row for row in group if row.label == base), None)
        for name in columns(group) if plain else ():
            metric = metrics()[name]
            if metric.is_distance or metric.kind == "harmonic" or not metric.ranked:
                continue
            table = by_image(group, metric.value).groupby("prompt_id").mean()
            own = table.pop(group.index(plain))
            differences = table.sub(own, axis=0).dropna(axis=1, how="all")
            differences = differences.loc[:, differences.count() >= 3]
            deviations = differences.std()
            deviations = deviations[deviations > 0]
            if deviations.empty:
                continue
            gain = differences.mean()[deviations.index] * (1 if metric.higher_is_better else -1)
            half = max(float(gain.max()), 0.0) / 2
            sd, prompts, many = float(deviations.median()), int(differences.count().median()), len(deviations)
            error = 1 - plain.block["settings"]["bootstrap"]["level"]
            about = dict(zip(("model", "protocol", "size"), plain.group, strict=True))
            about |= {"metric": name, "base": base, "comparisons": many, "prompts": prompts, "sd": sd}
            about["seen"] = difference_seen(prompts, sd, error)
            about["seen_holm"] = difference_seen(prompts, sd, error / many)
            for d in ([half] if half else []) + round_numbers(half or sd):
                needed = {"needed": pairs_needed(d, sd, error), "needed_holm": pairs_needed(d, sd, error / many)}
                found.append(about | {"difference": d, "is_half": d == half} | needed)
    return pandas.DataFrame(found)


def round_numbers(below: float) -> list[float]:
    """Return the largest `ROUND` numbers of the form 1, 2 or 5 times a power of ten that are below a value."""
    power = math.floor(math.log10(below))
    found = [digit * 10.0**p for p in range(power, power - 3, -1) for digit in (5, 2, 1)]
    return [float(f"{value:.1g}") for value in found if value < below][:ROUND]


def to_csv(table: pandas.DataFrame) -> str:
    """Return the table as CSV."""
    return csv_text(table)


def to_markdown(table: pandas.DataFrame, rows: list[Row]) -> str:
    """Return a table per model and protocol, a row per size and metric, and one sentence for each size."""
    parts = []
    for (model, protocol, base), family in table.groupby(["model", "protocol", "base"], sort=False):
        body, words = [], {}
        for (size, name), own in family.groupby(["size", "metric"], sort=False):
            body.append([size, metrics()[name].title, *_cells(own, metrics()[name].digits)])
            last = own.iloc[-1]
            text = f"- To tell {last.difference:g} in {metrics()[name].title} apart from {base} at {size} takes about "
            text += f"{last.needed} prompts ({last.needed_holm} with {last.comparisons} comparisons)."
            words.setdefault(size, text)
        head = ["size", "metric", "prompts", "sd", "seen", f"half of best − {base}", "smaller differences"]
        parts.append("\n".join([f"## {model}, protocol {protocol}\n", align(head, body), *words.values()]) + "\n")
    text = (
        "Difference and the prompts that show it, for means: with 80 % power in a paired test at the level of the\n"
        "intervals and, in brackets, as the first of Holm's comparisons. n = ((z + 0.84) sd / d)^2 + z^2 / 2, with sd\n"
        "the standard deviation of the paired differences of a prompt, the median of the methods. Seen is the\n"
        "smallest difference that the prompts of this store show. The differences are half of that between the best\n"
        "method and the base, and the round numbers (1, 2, 5) below it.\n"
    )
    return "\n".join(parts) + "\n" + text + (f"\n{EMBEDDED}\n" if is_embedded(rows) else "")


def _cells(own: pandas.DataFrame, digits: int) -> list[str]:
    """Return the cells of one metric: prompts, deviation, the difference they show, and the prompts for others."""
    first = own.iloc[0]
    needed = [f"{line.difference:.2g}: {line.needed} ({line.needed_holm})" for line in own.itertuples()]
    half = needed.pop(0) if first.is_half else ""
    seen = "" if first.isna()["seen"] else number(first.seen, digits)
    seen += "" if first.isna()["seen_holm"] else f" ({number(first.seen_holm, digits)})"
    return [str(first.prompts), number(first.sd, digits), seen, half, "; ".join(needed)]
