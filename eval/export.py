"""Write the records of a store as two tables that every tool reads: `python -m eval.export`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from sega.errors import RequestError

from . import options
from .records.tidy import cells, images

HELP = """usage: python -m eval.export [key=value ...]

Writes all scored runs as two files of Apache Parquet, for pandas.read_parquet, Polars, DuckDB or R:

  images.parquet   a row per image and protocol: prompt, seed, file, cost, and each measure
  cells.parquet    a row per run and protocol: parameters, cost, and each metric with its interval

  out      results/export   folder of the files
{selection}"""

KEYS = options.KEYS | {"out": "results/export"}


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return options.command(words, lambda: HELP.replace("{selection}", options.SELECTION), export)


def export(words: list[str]) -> int:
    """Write the two files."""
    found = options.parse(words, KEYS)
    if find_spec("pyarrow") is None:
        raise RequestError("export needs pyarrow: pip install 'sega-bench[eval]'")
    rows, out = options.scored(found), Path(found["out"])
    out.mkdir(parents=True, exist_ok=True)
    for name, table in (("images", images(rows)), ("cells", cells(rows))):
        path = out / f"{name}.parquet"
        table.to_parquet(path, index=False)
        print(f"{path}  {len(table)} rows, {len(table.columns)} columns")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
