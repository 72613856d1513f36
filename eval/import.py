"""Make a folder of images from elsewhere a cell of a store: `python -m eval.import`."""

from __future__ import annotations

import sys
from pathlib import Path

from sega.errors import RequestError, check_folder
from sega.home import command_line

from . import options
from .records.imported import bring

HELP = """usage: python -m eval.import path=<folder> method=<name> [key=value ...]

Copies a folder of images (own code, ComfyUI, a commercial service) into a store of runs, as a cell beside ours, for
scores, tables, figures, gallery and comparisons. Images are paired with ours by prompt and seed.

  python -m eval.import path=my/images method=mine prompts=captions.csv model=flux

  path      -              the folder: images with prompts=, or GenEval's or Aesthetic-4K's layout
  method    -              name of the method in tables
  prompts   -              .txt (a line for each image, in order of names), or .csv, .tsv, .json, .jsonl with file (or
                           file_name) and prompt (or text); optional: seed, prompt_id, seconds, calls, peak_memory_mb
  model     images         name of the model; one of conf/model, such as flux, puts the cell beside its runs
  size      -              only images of this size (N, WxH, or 2x of a known model); else a cell for each size
  seed      0              seed of images whose seed is not given
  store     results/runs   folder of runs

A PNG is copied as it is, other formats become PNG with the same pixels. Files that can't be imported are listed with
the reason. The same command again adds what is new. Then: python -m eval"""

KEYS = {
    "path": None,
    "method": None,
    "prompts": None,
    "model": "images",
    "size": None,
    "seed": "0",
    "store": "results/runs",
}


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return options.command(words, lambda: HELP, run)


def run(words: list[str]) -> int:
    """Import the folder that the words name."""
    found = options.parse(words, KEYS)
    for key in ("path", "method"):
        if not found[key]:
            raise RequestError(f"give {key}=<{'folder of images' if key == 'path' else 'name'}>; --help explains")
    path, prompts = options.existing(found["path"], "folder"), options.existing(found["prompts"], "file of prompts")
    seed = options.whole_number(found, "seed", 0)
    options.check_size(found["size"])
    check_folder("store", found["store"])

    def is_wanted(size: str) -> bool:
        return options.is_size(found["size"], found["model"], size)

    def tell(line: str) -> None:
        print(f"warning: {line}", file=sys.stderr)

    done = bring(path or Path(), prompts, Path(found["store"]), found["model"], found["method"], is_wanted, seed, tell)
    if not any(item.new or item.there for item in done):
        raise RequestError(f"no image of {found['path']} could be imported")
    for item in done:
        for change, count in item.changes.items():
            print(f"{count} {'image was' if count == 1 else 'images were'} {change}")
        print(f"{item.new} imported, {item.there} already there  ->  {item.cell}")
    print(f"then score them: {command_line('eval')}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
