"""Write tables, figures and the gallery from the records of a store: `python -m eval.report`."""

from __future__ import annotations

from pathlib import Path

from sega.errors import RequestError, near

from .. import options
from ..figures import command as figures
from ..gallery import page as gallery
from ..output.manifest import Made, inputs, part
from ..published import text, values
from ..records.rows import Row
from . import compare, power, ranks, seeds, tables
from .summary import summary, where_to_look

PARTS = ("tables", "figures", "gallery")

HELP = """usage: python -m eval.report [key=value ...]

Writes one table of all scored runs (CSV, Markdown, LaTeX), comparisons with a base method, published values beside
ours, figures, and a gallery. It reads records only, and files whose records have not changed are not written again. At
the end it prints a summary of the sizes above the training size (also in summary.txt) and the file to open first.

  python -m eval.report                                  everything in results/runs
  python -m eval.report model=tiny out=results/report parts=tables
  python -m eval.report method=vanilla,ntk,sega columns=6 crop=0.5,0.6,0.2

  out      results/report   folder of the report
{selection}
  parts    tables,figures,gallery
  base     vanilla          the method that the others are compared with, image by image
  workers  2                processes that cut images for the gallery
  force    false            write everything again

columns, crop, cost, size, prompt and seed are options of the figures: python -m eval.figures --help""".replace(
    "{selection}", options.SELECTION
)

KEYS = figures.KEYS | {"parts": ",".join(PARTS), "base": "vanilla", "workers": "2"}


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return options.command(words, lambda: HELP, report)


def report(words: list[str]) -> int:
    """Write the report that the words select."""
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
        print(f"{chosen.out}/ is up to date ({len(rows)} rows; force=true writes it again)")
    if "tables" in wanted:
        print(f"\n{(chosen.out / 'summary.txt').read_text()}")
    print(where_to_look(files))
    return 0


def write_tables(rows: list[Row], out: Path, cache: Path, base: str, made: Made) -> None:
    """Write the table, the comparisons, and the published values of these models and sizes if there are any."""
    comparison = compare.Comparison(cache)
    marks = compare.mark(rows, comparison)
    ranked = ranks.rank(rows, comparison)
    marks.ranks = {key: text for item in ranked for key, text in item.text().items()}
    made.text(out / "summary.txt", summary(rows, marks))
    made.text(out / "table.csv", tables.to_csv(rows))
    made.text(out / "table.md", tables.to_markdown(rows, marks))
    made.text(out / "table.tex", tables.to_latex(rows, marks))
    if ranked:
        made.text(out / "ranks.csv", ranks.to_csv(ranked))
        made.text(out / "ranks.md", ranks.to_markdown(ranked))
    pairs = compare.against_base(rows, base, comparison)
    if differences := compare.to_markdown(pairs):
        made.text(out / "paired.csv", compare.to_csv(pairs))
        made.text(out / "paired.md", differences)
    else:
        why = f"no size has {base} and another method with common prompts; base=<method> selects another base"
        made.skipped["paired.md"] = why
    if len(needed := power.power(rows, base)):
        made.text(out / "power.csv", power.to_csv(needed))
        made.text(out / "power.md", power.to_markdown(needed, rows))
    if len(spread := seeds.seeds(rows)):
        made.text(out / "seeds.csv", seeds.to_csv(spread))
        made.text(out / "seeds.md", seeds.to_markdown(spread, rows))
    known = {(row.run.model, row.size) for row in rows if row.run.model in values.FAMILIES.values()}
    joined = [j for j in values.join(rows) if (j.model, j.size) in known] if known else []
    if joined:
        made.text(out / "published.csv", text.to_csv(joined))
        made.text(out / "published.md", text.to_markdown(joined) + "\n" + text.READ_WITH_CARE)
    else:
        why = "no run of a model and size with published values (python -m eval.published)"
        made.skipped["published.md"] = why
