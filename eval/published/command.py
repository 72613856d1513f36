"""Print the values of the papers, or write them beside ours: `python -m eval.published`."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from sega.errors import RequestError, near
from sega.store.screen import room

from .. import options
from ..output.manifest import Made, inputs, part
from . import text
from .presets import listing
from .values import join, of_paper, papers

HELP = """usage: python -m eval.published [presets | paper=<name>] [key=value ...]

Prints the values of the papers and the spread between them. With paper=, it writes the table of that paper beside our
runs of the same models, sizes and methods: table-<paper>.csv, .md and .tex. Runs that were scored under the protocol of
the paper (eval=<paper>) are preferred. With presets, it lists every row of the papers with the preset and the method
that run it, or why nothing does.

  python -m eval.published
  python -m eval.published presets
  python -m eval.published paper=dype store=results/runs

  paper    -                {papers}
  out      results/report   folder of the table
{selection}"""

KEYS = options.KEYS | {"paper": None, "out": "results/report"}


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""

    def help_text() -> str:
        return HELP.replace("{papers}", ", ".join(papers())).replace("{selection}", options.SELECTION)

    return options.command(words, help_text, published)


def published(words: list[str]) -> int:
    """Print every published value, or what runs each row; or write the table of one paper."""
    if words == ["presets"]:
        sys.stdout.write(listing(room(sys.stdout)))
        return 0
    found = options.parse(words, KEYS)
    name, known = found["paper"], papers()
    if name is None:
        width = room(sys.stdout)
        care = textwrap.fill(" ".join(text.READ_WITH_CARE.split()), width) + "\n" if width else text.READ_WITH_CARE
        sys.stdout.write(text.to_markdown(join([]), width=width) + "\n" + care)
        return 0
    if name not in known:
        raise RequestError(f"unknown paper={name}{near(name, known)}")
    store, out = Path(found["store"]), Path(found["out"])
    rows = options.scored(found) if store.is_dir() and any(store.glob("*/*/*/*/scores.json")) else []
    joined = of_paper(join(rows, protocol=name), known[name])
    if not joined:
        raise RequestError(f"paper={name}: {known[name]} has no value of a model in conf/model; see eval/published")

    def write(made: Made) -> None:
        made.text(out / f"table-{name}.csv", text.to_csv(joined))
        made.text(out / f"table-{name}.md", text.to_markdown(joined, known[name]) + "\n" + text.READ_WITH_CARE)
        made.text(out / f"table-{name}.tex", text.to_latex(joined, known[name]))

    made = part(out, f"table-{name}", inputs(rows, name), write)
    print(f"{sum(j.ours is not None for j in joined)} of {len(joined)} entries of {known[name]} have a run of ours")
    for path in made.files:
        print(path)
    return 0
