"""Command line of the votes: `python -m eval.votes`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from sega.errors import RequestError
from sega.home import command_line
from sega.store.files import atomic, file_sha

from .. import options
from ..output.manifest import Made
from ..records.rows import Row
from . import judge, text
from .read import files_of, read
from .summary import FOLDER, results, told

HELP = """usage: python -m eval.votes [key=value ...]

Win rates, Bradley-Terry scores with intervals and the agreement of raters, from files of votes: those that vote.html of
the gallery saves, or a CSV of prompt_id, seed, method_a, method_b, winner (a, b, tie), rater. Writes votes.md,
votes.csv (methods) and votes-pairs.csv.

  python -m eval.votes votes=~/Downloads/votes-ann.json keep=true    then python -m eval.report has a column of it
  python -m eval.votes pairs=pairs.csv count=500 against=vanilla     for a judge; it fills in winner and rater

  votes    <store>/votes    a file or a folder of files
  keep     false            also copy them into <store>/votes, whose votes are a column of the report's table
  out      results/votes    folder of the output
{selection}
  pairs    -                write pairs of images with their paths and prompts to this CSV, and no results
  count, against, seed      pairs: at most so many (200), only those of one method, and the order and sides (0)"""

KEYS = options.KEYS | {
    "votes": None,
    "keep": "false",
    "out": "results/votes",
    "pairs": None,
    "count": "200",
    "against": None,
    "seed": "0",
}


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return options.command(words, lambda: HELP.replace("{selection}", options.SELECTION), run)


def run(words: list[str]) -> int:
    """Write results, or pairs for a judge."""
    found = options.parse(words, KEYS)
    if found["keep"] not in ("true", "false"):
        raise RequestError(f"keep={found['keep']} must be true or false")
    count, seed = options.whole_number(found, "count"), options.whole_number(found, "seed", 0)
    files = [] if found["pairs"] else _files(found)
    rows = options.scored(found)
    if found["pairs"]:
        return _pairs(Path(found["pairs"]), rows, count, seed, found["against"])
    ballots = read(files, rows)
    for line in told(ballots):
        print(f"warning: {line}", file=sys.stderr)
    if not ballots.votes:
        raise RequestError("there are no votes on images of this store")
    made, out = Made(), Path(found["out"])
    ours = results(ballots.votes, rows)
    made.text(out / "votes.md", text.to_markdown(ours))
    made.text(out / "votes.csv", text.methods_csv(ours))
    made.text(out / "votes-pairs.csv", text.pairs_csv(ours))
    print((out / "votes.md").read_text())
    for path in made.files:
        print(path)
    _keep(files, Path(found["store"]) / FOLDER, found["keep"] == "true")
    return 0


def _files(found: dict[str, Any]) -> list[Path]:
    """Return the files that hold the votes."""
    store = Path(found["store"]) / FOLDER
    if found["votes"] is None and not store.is_dir():
        raise RequestError(f"no votes in {store}; give votes=<file or folder> (vote.html of the gallery saves one)")
    path = options.existing(found["votes"] and str(Path(found["votes"]).expanduser()), "votes") or store
    files = files_of(path)
    if not files:
        raise RequestError(f"no file of votes in {path}")
    return files


def _keep(files: list[Path], folder: Path, wanted: bool) -> None:
    """Copy files into the folder of a store under names with their hash, or say that this is possible."""
    new = [path for path in files if path.resolve().parent != folder.resolve()]
    if new and not wanted:
        print(f"keep=true copies the votes into {folder}, whose votes {command_line('report')} shows")
    for path in new if wanted else []:
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / f"{path.stem}-{file_sha(path)[:8]}{path.suffix}"
        with atomic(place) as scratch:
            shutil.copyfile(path, scratch)
        print(place)


def _pairs(path: Path, rows: list[Row], count: int, seed: int, against: str | None) -> int:
    content = judge.pairs(rows, count, seed, against)
    lines = content.count("\n") - 1
    if lines < 1:
        raise RequestError("no two methods have different images of one prompt and seed")
    Made().text(path, content)
    print(f"{path}: fill in winner (a, b, tie) and rater, then {command_line('votes')} votes={path}")
    return 0
