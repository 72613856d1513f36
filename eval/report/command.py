"""Tables, figures and the gallery from the records of the store: `python -m eval.report`."""

from __future__ import annotations

from pathlib import Path

from sega.errors import RequestError, near

from .. import options
from ..figures import command as figures
from ..gallery import page as gallery
from ..output.manifest import Made, inputs, part
from ..published import text, values
from ..records.rows import Row
from . import compare, tables
from .summary import summary, where_to_look

PARTS = ("tables", "figures", "gallery")

HELP = """usage: python -m eval.report [key=value ...]

Joins all scored runs into one table (CSV, Markdown, LaTeX), comparisons with a base method, published values beside
ours, figures, and a gallery. Reads records only, and makes nothing again whose records have not changed. Ends with a
summary of the sizes above the training side, of at most 80 columns (also in summary.txt), and with what to open.

  python -m eval.report                                  everything in results/runs
  python -m eval.report model=tiny out=results/report parts=tables
  python -m eval.report method=vanilla,ntk,sega columns=6 crop=0.5,0.6,0.2

  out      results/report   where the files go
{selection}
  parts    tables,figures,gallery
  base     vanilla          the method that others are compared with, image by image
  workers  2                processes that cut images for the gallery
  force    false            make everything again

columns, crop, cost, size, prompt and seed are options of the figures: python -m eval.figures --help""".replace(
    "{selection}", options.SELECTION
)

KEYS = figures.KEYS | {"parts": ",".join(PARTS), "base": "vanilla", "workers": "2"}


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return options.command(words, lambda: HELP, report)


def report(words: list[str]) -> int:
    """Write the report that the words ask for."""
    found = options.parse(words, KEYS)
    wanted = str(found["parts"]).strip("[]").split(",")
    for name in wanted:
        if name not in PARTS:
            raise RequestError(f"unknown part {name} in parts={found['parts']}{near(name, PARTS)}")
    chosen, workers = figures.Options.read(found), options.whole_number(found, "workers")
    rows = options.scored(found)
    made: list[Made] = []
    if "tables" in wanted:
        state = inputs(rows, [found["base"], found["cache"]])

        def write(made: Made) -> None:
            write_tables(rows, chosen.out, Path(found["cache"]), found["base"], made)

        made.append(part(chosen.out, "tables", state, write, chosen.force))
    if "figures" in wanted:
        made += [figures.draw(name, rows, chosen) for name in figures.SCORES]
        steps = [figures.draw(name, rows, chosen) for name in figures.STEPS]
        made += [item for item in steps if item.files]
        if not any(item.files for item in steps):
            made.append(Made(skipped={"figures over steps": steps[0].skipped.get("scaling", "")}, fresh=False))
    if "gallery" in wanted:
        made.append(gallery.build(rows, chosen.out / "gallery", workers))
    files = [path for item in made for path in item.files]
    if any(item.fresh for item in made):
        for item in made:
            for what, why in item.skipped.items():
                print(f"no {what}: {why}")
        for path in files:
            print(path)
    else:
        print(f"nothing has changed since {chosen.out}/ was made ({len(rows)} rows; force=true makes it again)")
    if "tables" in wanted:
        print(f"\n{(chosen.out / 'summary.txt').read_text()}")
    print(where_to_look(files))
    return 0


def write_tables(rows: list[Row], out: Path, cache: Path, base: str, made: Made) -> None:
    """The table, the comparisons, and published values where there are any of these models and sizes."""
    comparison = compare.Comparison(cache)
    marks = compare.mark(rows, comparison)
    made.text(out / "summary.txt", summary(rows, marks))
    made.text(out / "table.csv", tables.to_csv(rows))
    made.text(out / "table.md", tables.to_markdown(rows, marks))
    made.text(out / "table.tex", tables.to_latex(rows, marks))
    pairs = compare.against_base(rows, base, comparison)
    if differences := compare.to_markdown(pairs):
        made.text(out / "paired.csv", compare.to_csv(pairs))
        made.text(out / "paired.md", differences)
    else:
        why = f"no size has {base} and another method on common prompts; base=<method> chooses another"
        made.skipped["paired.md"] = why
    known = {(row.run.model, row.size) for row in rows if row.run.model in values.FAMILIES.values()}
    joined = [j for j in values.join(rows) if (j.model, j.size) in known] if known else []
    if joined:
        made.text(out / "published.csv", text.to_csv(joined))
        made.text(out / "published.md", text.to_markdown(joined) + "\n" + text.READ_WITH_CARE)
    else:
        why = "no run of a model and size with published values (python -m eval.published)"
        made.skipped["published.md"] = why
