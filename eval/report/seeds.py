"""Split the variance of images into that of prompts and that of seeds, where a store has several seeds per prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..metrics.inference import variance_parts
from ..metrics.registry import metrics
from ..output.markup import align, csv_text
from ..output.numbers import number
from ..records.rows import EMBEDDED, Row, is_embedded
from ..records.tidy import by_image
from .tables import columns

if TYPE_CHECKING:
    import pandas

ABOUT = ["model", "protocol", "size", "method"]


def seeds(rows: list[Row]) -> pandas.DataFrame:
    """Return one row per method and metric (means only) of which several seeds of a prompt were scored.

    Columns: model, protocol, size, method, metric, prompts, seeds (those that all prompts have), sd_prompt and sd_seed
    (standard deviations of an image), seed_share (of the variance), low and high (the smallest and largest mean of one
    seed), sd_mean (the standard deviation of the means of one seed).
    """
    import pandas

    found = []
    for row in rows:
        for name in columns([row]):
            metric = metrics()[name]
            if metric.is_distance or metric.kind == "harmonic" or "value" not in row.cell(name) or row.is_reference:
                continue
            values = by_image([row], metric.value)[0]
            parts = variance_parts(values.to_numpy(), list(values.index.get_level_values("prompt_id")))
            if parts is None:
                continue
            means = values.unstack("seed").dropna(axis=1).mean()
            about = dict(zip(ABOUT, (*row.group, row.label), strict=True)) | {"metric": name}
            about |= {"prompts": values.index.get_level_values("prompt_id").nunique(), "seeds": len(means)}
            about |= {"sd_prompt": parts[0] ** 0.5, "sd_seed": parts[1] ** 0.5}
            about |= {"seed_share": parts[1] / sum(parts) if sum(parts) else None}
            found.append(about | {"low": means.min(), "high": means.max(), "sd_mean": means.std()})
    return pandas.DataFrame(found)


def to_csv(table: pandas.DataFrame) -> str:
    """Return the table as CSV."""
    return csv_text(table)


def to_markdown(table: pandas.DataFrame, rows: list[Row]) -> str:
    """Return a table per model and protocol: the share of the seed, and the spread of the means of one seed."""
    parts = []
    for (model, protocol), group in table.groupby(["model", "protocol"], sort=False):
        names = list(group["metric"].unique())
        body = []
        for (size, method), own in group.groupby(["size", "method"], sort=False):
            cells = {line.metric: _cell(line) for line in own.itertuples()}
            counts = f"{own['prompts'].max()} × {own['seeds'].max()}"
            body.append([size, method, counts, *(cells.get(name, "") for name in names)])
        titles = [metrics()[name].title for name in names]
        parts.append(
            f"## {model}, protocol {protocol}\n\n{align(['size', 'method', 'prompts × seeds', *titles], body)}"
        )
    text = (
        "Of the variance of an image's value, the percentage that is of the seed; the rest is of the prompt. Then\n"
        "the standard deviation of the mean over all prompts from one seed to the next: what a table with one seed\n"
        "may move by. Where the seed has most of the variance, more seeds help as much as more prompts; where the\n"
        "prompt has it, only more prompts do. Intervals of all tables are over prompts, with all their seeds.\n"
    )
    return "\n".join(parts) + "\n" + text + (f"\n{EMBEDDED}\n" if is_embedded(rows) else "")


def _cell(line) -> str:
    share = "" if line.seed_share is None or line.seed_share != line.seed_share else f"{line.seed_share:.0%}"
    spread = "" if line.sd_mean != line.sd_mean else f"{number(line.sd_mean, metrics()[line.metric].digits)}"
    return ", ".join(filter(None, (share, spread)))
