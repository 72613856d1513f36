"""What a search found, from its journal: `python -m eval.search.report`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from sega.errors import RequestError
from sega.run.quantities import amount

from .. import options
from ..metrics.registry import metrics
from ..output.manifest import Made
from ..output.markup import align, csv_text
from ..output.numbers import number
from . import plots
from .definition import word
from .journal import load_study
from .trials import TrialRow, ordered, read_trials, winners

HELP = """usage: python -m eval.search.report search=NAME [key=value ...]

Writes from the journal of a search, also while it runs:

  best.md, trials.csv     the best trials and the starting points; all trials
  winners.yaml            labels and settings of the best trials (of the front, where cost is an objective); of those
                          that differ in numbers alone the best
  progress.png            rank of each trial, best so far, trials that were stopped
  importance.png          how much each setting decides
  front.png               rank against operations

  search   -                    name of the search
  out      results/search/NAME  folder of its journal; the files go into <out>/report
  best     15                   rows of best.md
  winners  5                    entries of winners.yaml

The best of many trials looks better on its own prompts than it is: confirm winners on others."""

KEYS: dict[str, Any] = {"search": None, "out": None, "best": "15", "winners": "5"}


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return options.command(words, lambda: HELP, report)


def report(words: list[str]) -> int:
    """Write the report of a search."""
    found = options.parse(words, KEYS)
    if not found["search"] and not found["out"]:
        raise RequestError("give search=NAME, or out=<folder of a search>")
    out = Path(found["out"] or f"results/search/{found['search']}")
    count, kept = options.whole_number(found, "best"), options.whole_number(found, "winners")
    study = load_study(out)
    definition, rows, made = study.user_attrs["definition"], read_trials(study), Made()
    if not rows:
        raise RequestError(f"{out}: the starting points are not complete yet")
    about = statement(study.study_name, definition, rows, study.user_attrs["workers"])
    folder = out / "report"
    made.text(folder / "best.md", f"# Search {study.study_name}\n\n{about}\n\n{table(rows, definition, count)}")
    made.text(folder / "trials.csv", csv_text(frame(rows, definition)))
    chosen = winners(rows, kept, len(study.directions) > 1)
    made.text(folder / "winners.yaml", winners_text(study.study_name, definition, rows, chosen))
    made.drawing(folder / "progress.png", lambda: plots.progress(rows, about))
    made.drawing(folder / "importance.png", lambda: plots.importance(study, rows, about))
    made.drawing(folder / "front.png", lambda: plots.against_cost(rows, about))
    print((folder / "best.md").read_text())
    for name, why in made.skipped.items():
        print(f"no {name}: {why}", file=sys.stderr)
    for path in made.files:
        print(path)
    return 0


def statement(name: str, definition: dict[str, Any], rows: list[TrialRow], workers: int) -> str:
    """Return how many trials there are, what each was made of, and what the rank is."""
    tried, starts = [row for row in rows if not row.start], [row for row in rows if row.start]
    states, goal = Counter(row.state for row in tried), definition["objective"]
    rungs = " or ".join(map(str, sorted({row.prompts for row in tried if row.state == "stopped"})))
    more = {"stopped": f" after {rungs} prompts"}
    trials = ", ".join(f"{count} {state}{more.get(state, '')}" for state, count in sorted(states.items()))
    listed = ", ".join(f"{metric} ({direction})" for metric, direction in goal["metrics"].items())
    second = "; the operations of an image are a second objective" if goal.get("cost") else ""
    fixed = " ".join(word(key, value) for key, value in definition["fixed"].items())
    return (
        f"{len(tried)} trials ({trials}) by {workers} worker{'s' if workers > 1 else ''}. A complete one has "
        f"{max(row.images for row in starts)} images of {max(row.prompts for row in starts)} prompts ({fixed}). "
        f"Rank: the mean of the ranks among the {len(starts)} starting points by {listed}; 1 is as good as the best of "
        f"them by all{second}. The best of many trials looks better on these prompts than it is."
    )


def table(rows: list[TrialRow], definition: dict[str, Any], count: int) -> str:
    """Return the best trials and all starting points as Markdown, from the lowest rank on."""
    names = list(definition["objective"]["metrics"])
    shown = [row for k, row in enumerate(ordered(rows)) if k < count or row.start]
    head = ["", "rank", *names, "operations", "calls", "settings"]
    body = [
        [
            row.label,
            f"{row.rank:.2f}",
            *(f"{number(row.scores[name], metrics()[name].digits)} ({row.ranks[name]:.1f})" for name in names),
            "" if row.operations is None else amount(row.operations),
            f"{row.calls:g}",
            " ".join(row.overrides),
        ]
        for row in shown
    ]
    return align(head, body) + "\nIn brackets: the rank by the metric alone.\n"


def frame(rows: list[TrialRow], definition: dict[str, Any]) -> Any:
    """Return all trials as a DataFrame: a line for each."""
    import pandas

    names = list(definition["objective"]["metrics"])
    return pandas.DataFrame(
        {
            "trial": row.number,
            "start": row.start,
            "state": row.state,
            "rank": row.rank,
            "prompts": row.prompts,
            "images": row.images,
            **{name: row.scores.get(name) for name in names},
            **{f"rank_{name}": row.ranks.get(name) for name in names},
            "operations": row.operations,
            "calls": row.calls,
            "seconds": row.seconds,
            "overrides": " ".join(row.overrides),
            "run": row.run,
            "why": row.why,
        }
        for row in rows
    )


def winners_text(name: str, definition: dict[str, Any], rows: list[TrialRow], chosen: list[TrialRow]) -> str:
    """Return the winners as YAML, with the number of trials they were chosen from."""
    import yaml

    content = {
        "search": name,
        "fixed": definition["fixed"],
        "objective": definition["objective"],
        "trials": sum(not row.start for row in rows),
        "winners": [
            {"label": f"{name}-{row.number}", "rank": round(row.rank or 0.0, 4), "overrides": row.overrides}
            for row in chosen
        ],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
