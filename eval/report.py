"""Tables and figures from the records of the store: `python -m eval.report`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eval.config import split_words
from sega.errors import RequestError, near

HELP = """usage: python -m eval.report [key=value ...]

Joins all scored runs into one table (CSV, Markdown, LaTeX), comparisons with a base method, comparison grids and
plots. Reads records only, and does nothing when they have not changed.

  python -m eval.report                                  everything in results/runs
  python -m eval.report model=tiny out=results/report
  python -m eval.report method=vanilla,ntk,sega columns=6 crop=0.5,0.6,0.2

  store    results/runs    folder of runs, scored by python -m eval
  out      results/report  where the files go
  cache    results/cache   where python -m eval keeps rendered references
  model, method, eval      only runs of these (commas between several), only this protocol
  base     vanilla         the method that others are compared with, picture by picture
  columns  4               prompts in a grid
  crop     0.5,0.55,0.25   centre and side of the magnified crop, as fractions of the picture
  force    false           make everything again"""

KEYS = {"store": "results/runs", "out": "results/report", "cache": "results/cache", "model": None, "method": None,
        "eval": None, "base": "vanilla", "columns": "4", "crop": "0.5,0.55,0.25", "force": "false"}  # fmt: skip


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    if any(word in ("-h", "--help", "help") for word in words):
        print(HELP)
        return 0
    try:
        return report(words)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def report(words: list[str]) -> int:
    """Write the report that the words ask for."""
    from eval.rows import load_rows

    options, rest = split_words(words, KEYS)
    if rest:
        key = rest[0].partition("=")[0]
        raise RequestError(f"unknown option {key}{near(key, KEYS)}")
    columns, crop = _columns(options["columns"]), _crop(options["crop"])
    store, out = Path(options["store"]), Path(options["out"])
    if options["eval"]:
        from eval.config import protocols

        if options["eval"] not in protocols():
            raise RequestError(f"unknown protocol eval={options['eval']}{near(options['eval'], protocols())}")
    rows, unscored = load_rows(store, Path(options["cache"]), options["model"], options["method"], options["eval"])
    for run in unscored:
        print(f"not scored yet: {run.name}; run python -m eval", file=sys.stderr)
    inputs = _inputs(rows, {k: v for k, v in options.items() if k not in ("force", "out")})
    manifest = out / "report.json"
    if options["force"] != "true" and _current(manifest, inputs):
        print(f"nothing has changed since {out}/ was made ({len(rows)} rows; force=true makes it again)")
        return 0
    made, skipped = write(rows, out, Path(options["cache"]), options["base"], columns, crop)
    record = {"inputs": inputs, "files": {str(path.relative_to(out)): _sha(path) for path in made}, "skipped": skipped}
    from eval.records import write_text
    from eval.tables import to_markdown

    write_text(manifest, json.dumps(record, indent=1) + "\n")
    print(to_markdown(rows, terminal=True))
    for what, why in skipped.items():
        print(f"no {what}: {why}")
    for path in made:
        print(path)
    return 0


def _columns(text: str) -> int:
    if not str(text).isdigit() or int(text) < 1:
        raise RequestError(f"columns={text} must be a whole number of at least 1")
    return int(text)


def _crop(text: str) -> tuple[float, float, float]:
    try:
        x, y, side = (float(part) for part in str(text).strip("[]()").split(","))
    except ValueError:
        raise RequestError(f"crop={text} must be x,y,side such as crop=0.5,0.6,0.25") from None
    if not (0 <= x <= 1 and 0 <= y <= 1 and 0 < side <= 1):
        raise RequestError(f"crop={text} must hold fractions between 0 and 1")
    return x, y, side


def _inputs(rows: list, options: dict[str, Any]) -> str:
    """Hash of everything the report is made from, its own source included."""
    from eval.records import digest, file_digest

    files = sorted(
        path for row in rows for name in ("scores.json", "scores.jsonl", "images.jsonl", "run.json")
        if (path := row.run.folder / name).exists()
    )  # fmt: skip
    source = sorted(Path(__file__).parent.glob("*.py"))
    data = sorted((Path(__file__).parent / "published").glob("*.csv"))
    return digest([options, file_digest(*source, *data), [(str(path), file_digest(path)) for path in files]])


def _current(manifest: Path, inputs: str) -> bool:
    if not manifest.exists():
        return False
    try:
        record = json.loads(manifest.read_text())
    except json.JSONDecodeError:
        return False
    files = record.get("files", {})
    return record.get("inputs") == inputs and all(
        (manifest.parent / name).is_file() and _sha(manifest.parent / name) == sha for name, sha in files.items()
    )


def _sha(path: Path) -> str:
    from eval.records import file_digest_plain

    return file_digest_plain(path)


def write(
    rows: list, out: Path, cache: Path, base: str, columns: int, crop: tuple[float, float, float]
) -> tuple[list[Path], dict[str, str]]:
    """Write every file of the report; returns their paths, and what could not be made with the reason."""
    from eval import compare, figures, plots, published, tables
    from eval.records import write_text

    out.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    skipped: dict[str, str] = {}
    comparison = compare.Comparison(cache)
    marks = compare.mark(rows, comparison)

    def text(name: str, content: str) -> None:
        write_text(out / name, content)
        made.append(out / name)

    text("table.csv", tables.to_csv(rows))
    text("table.md", tables.to_markdown(rows, marks))
    text("table.tex", tables.to_latex(rows, marks))
    pairs = compare.against_base(rows, base, comparison)
    if differences := compare.to_markdown(pairs):
        text("paired.csv", compare.to_csv(pairs))
        text("paired.md", differences)
    else:
        skipped["paired.md"] = f"no size has {base} and another method on common prompts; base=<method> chooses another"
    known = {(row.run.model, row.size) for row in rows if row.run.model in published.FAMILIES.values()}
    joined = [j for j in published.join(rows) if (j.model, j.size) in known] if known else []
    if joined:
        text("published.csv", published.to_csv(joined))
        text("published.md", published.to_markdown(joined) + "\n" + published.READ_WITH_CARE)
    else:
        skipped["published.md"] = "no run of a model and size with published values (python -m eval.published)"
    for (model, protocol), group in tables.grouped(rows).items():
        suffix = model if len({p for m, p in tables.grouped(rows) if m == model}) == 1 else f"{model}-{protocol}"
        for size in dict.fromkeys(row.size for row in group):
            same = [row for row in group if row.size == size]
            if same[0].run.width is None:
                skipped[f"grid-{suffix}"] = "pictures of several sizes"
                continue
            picture, reason = figures.grid(same, columns, crop[:2], crop[2])
            name = f"grid-{suffix}-{size}.png"
            if picture:
                _drawn(out / name, lambda path, picture=picture: picture.save(path, "PNG", optimize=True))
                made.append(out / name)
            else:
                skipped[name] = reason
        caption = tables.EMBEDDED if tables.is_embedded(group) else ""
        for name, plot in ((f"scores-{suffix}.png", plots.against_size), (f"cost-{suffix}.png", plots.against_cost)):
            part = out / f".{name}"
            reason = plot(group, part, caption)
            if reason:
                skipped[name] = reason
            else:
                part.replace(out / name)
                made.append(out / name)
    return made, skipped


def _drawn(path: Path, save: Callable[[Path], None]) -> None:
    part = path.with_name(f".{path.name}")
    save(part)
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
