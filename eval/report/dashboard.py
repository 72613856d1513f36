"""A report for Weights & Biases: the tables of the runs, and panels over the runs that `eval.track` sends.

The tables are text, as they are in `table.md`. The panels are live: they read the summaries, the image tables and the
scaling maps of the runs in the project, which are found by their ids, the hashes of the cells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..metrics.registry import metrics
from ..records.rows import Row, grouped
from . import tables
from .compare import Comparison, mark

TITLE = "Resolution extrapolation: methods compared"
ABOUT = "Made by SEGA-bench. Tables are of the day of the report; panels follow the runs of the project."
WIDTH, HEIGHT = 8, 6  # of a panel; a row of a report is 24 wide


def markdown(rows: list[Row], project: str, cache: Path) -> str:
    """The report as text: what its Markdown blocks hold, and a list of the panels."""
    parts = [f"# {TITLE}\n", f"{ABOUT}\n"]
    for (_, protocol), group in grouped(rows).items():
        names = ", ".join(metrics()[name].title for name in _shown(group))
        parts.append(_table(group, cache))
        parts.append(
            f"Panels, of project {project}: bars of {names} (`{protocol}/...` in the summary of a run) and each "
            "against seconds an image; the tables `images`; the maps `scaling`.\n"
        )
    return "\n".join(parts)


def report(rows: list[Row], project: str, cache: Path, entity: str) -> Any:
    """The report as a `wandb_workspaces.reports.v2.Report`, which `save()` sends; nothing is asked of the service here.

    `entity` is the user or team whose project it is.
    """
    import wandb_workspaces.reports.v2 as api

    blocks: list[Any] = [api.P(ABOUT), api.TableOfContents()]
    for (model, protocol), group in grouped(rows).items():
        heading, _, table = _table(group, cache).partition("\n")
        blocks += [api.H1(heading.lstrip("# ")), api.MarkdownBlock(table.strip())]
        blocks.append(_panels(api, f"{model}, {protocol}", protocol, group))
    return api.Report(project, entity, TITLE, ABOUT, blocks, width="fluid")


def _panels(api: Any, name: str, protocol: str, rows: list[Row]) -> Any:
    """The panels of one model and protocol, over its runs alone."""
    ids = sorted({row.run.hash for row in rows if not row.is_reference})
    seconds = api.SummaryMetric("seconds")
    panels: list[Any] = []
    for metric in _shown(rows):
        value, title = api.SummaryMetric(f"{protocol}/{metric}"), metrics()[metric].title
        panels.append(api.BarPlot(title=title, metrics=[value], max_bars_to_show=len(ids)))
        panels.append(api.ScatterPlot(title=f"{title} against seconds an image", x=seconds, y=value))
    panels.append(api.MediaBrowser(title="scaling maps", media_keys=["scaling"]))
    panels.append(api.WeavePanelSummaryTable(table_name="images"))
    for place, panel in enumerate(panels):
        x, y = place % 3 * WIDTH, place // 3 * HEIGHT
        panel.layout = api.Layout(x=x, y=y, w=WIDTH, h=HEIGHT)
    runs = api.Runset(name=name, filters=f"ID in {ids}")
    return api.PanelGrid(runsets=[runs], panels=panels)


def _table(rows: list[Row], cache: Path) -> str:
    return tables.to_markdown(rows, mark(rows, Comparison(cache)))


def _shown(rows: list[Row]) -> list[str]:
    """Metrics that at least one row has a value of."""
    return [name for name in tables.columns(rows) if any(row.cell(name).get("value") is not None for row in rows)]
