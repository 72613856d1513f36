"""Figures of a search: progress, importance of the settings, and rank against cost."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..figures.palette import COLOURS, GREY
from ..figures.scores import PAGE, SMALL
from ..figures.text import families, paragraph, plain
from ..output.manifest import NothingError
from .trials import TrialRow, front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna import Study

RANK = "mean rank among\nthe starting points"
BEST = 0.25
"""Share of the trials that counts as the best: a tenth of few trials would be one or two of them."""
LEAST = 20
"""Complete trials below which no importance is told."""
TRIED, STARTED = COLOURS[1], COLOURS[0]


def progress(rows: list[TrialRow], caption: str) -> Figure:
    """Plot the rank of each trial in order, and the best so far. Raises NothingError without complete trials."""
    done = _complete(rows)
    points = {
        "starting point": ("s", STARTED, [row for row in done if row.start]),
        "complete": ("o", TRIED, [row for row in done if not row.start]),
        "stopped early, rank at that time": (
            "x",
            GREY,
            [r for r in rows if r.state == "stopped" and r.rank is not None],
        ),
    }
    least = [(row.number, min(other.rank for other in done if other.number <= row.number)) for row in done]
    last = max(row.number for row in rows)
    with _figure(rows, 2.6, caption) as (figure, panel):
        for label, (marker, colour, part) in points.items():
            if part:
                panel.scatter([r.number for r in part], [r.rank for r in part], 12, colour, marker, lw=0.8, label=label)
        numbers, ranks = zip(*least, (last, least[-1][1]), strict=True)
        panel.step(numbers, ranks, where="post", color="black", lw=0.9, label="best so far")
        panel.set_xlabel("trial")
        panel.set_ylabel(RANK)
        panel.set_xlim(-0.5, last + 0.5)
        figure.legend(loc="outside upper left", ncols=4, frameon=False)
    return figure


def importance(study: Study, rows: list[TrialRow], caption: str) -> Figure:
    """Plot how much each setting decides about being among the best. Raises NothingError for too few trials."""
    shares = importances(study, rows)
    names = list(shares)[::-1]
    with _figure(rows, 0.5 + 0.2 * len(shares), caption) as (figure, panel):
        panel.barh([plain(name) for name in names], [shares[name] for name in names], color=TRIED, height=0.6)
        panel.set_xlabel(
            f"importance for being among the best {BEST:.0%} of the complete trials (PED-ANOVA; the sum is 1)"
        )
        panel.grid(axis="x", linewidth=0.4, alpha=0.5)
        panel.grid(axis="y", visible=False)
        panel.set_axisbelow(True)
    return figure


def importances(study: Study, rows: list[TrialRow]) -> dict[str, float]:
    """Return the share of each setting, the largest first. Raises NothingError for too few trials."""
    from optuna import importance as measures

    drawn = [row for row in rows if row.state == "complete" and not row.start]
    if len(drawn) < LEAST:
        raise NothingError(f"{len(drawn)} complete trials can't tell the importance of settings; {LEAST} can")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return measures.get_param_importances(
            study,
            evaluator=measures.PedAnovaImportanceEvaluator(target_quantile=BEST),
            target=lambda trial: trial.values[0],
        )


def against_cost(rows: list[TrialRow], caption: str) -> Figure:
    """Plot rank against operations with the front. Raises NothingError where all trials cost the same."""
    done = [row for row in _complete(rows) if row.cost]
    if len({round(row.cost, 6) for row in done}) < 2:
        raise NothingError("all trials cost the same, so there is no front")
    counted = all(row.operations is not None for row in done)
    unit = 1e12 if counted else 1.0
    best = front(done)
    with _figure(rows, 3.0, caption) as (figure, panel):
        for label, colour, part in (("starting point", STARTED, True), ("trial", TRIED, False)):
            points = [row for row in done if bool(row.start) == part]
            panel.scatter([r.cost / unit for r in points], [r.rank for r in points], 12, colour, lw=0, label=label)
            for row in points if part else ():
                place, size = (row.cost / unit, row.rank), SMALL - 1
                panel.annotate(plain(row.start), place, (3, 3), textcoords="offset points", fontsize=size, color=colour)
        panel.step(
            [r.cost / unit for r in best], [r.rank for r in best], where="post", color="black", lw=0.9, label="front"
        )
        panel.set_xlabel("TFLOP for an image" if counted else "transformer calls for an image")
        panel.set_ylabel(RANK)
        figure.legend(loc="outside upper left", ncols=3, frameon=False)
    return figure


def _complete(rows: list[TrialRow]) -> list[Any]:
    done = [row for row in rows if row.state == "complete"]
    if not done:
        raise NothingError("no trial is complete")
    return done


@contextlib.contextmanager
def _figure(rows: list[TrialRow], inches: float, caption: str) -> Iterator[tuple[Figure, Axes]]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    look = {"font.size": SMALL, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6}
    with rc_context(look | {"font.family": families([row.start for row in rows] + [caption])}):
        figure = Figure(figsize=(PAGE, inches + 0.8), layout="constrained")
        panel = figure.subplots()
        panel.grid(axis="y", linewidth=0.4, alpha=0.5)
        panel.tick_params(width=0.6, length=2.5)
        figure.supxlabel(paragraph(caption, PAGE - 0.9, SMALL, 5), fontsize=SMALL)
        yield figure, panel
