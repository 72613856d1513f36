"""`sega-bench <command> ...`: every command of the harness, from any folder.

Each command is also there by itself: `run` is `python run.py` in a clone, `report` is `python -m eval.report`.
"""

from __future__ import annotations

import sys
from importlib import import_module

from sega.errors import near
from sega.home import package

COMMANDS = {
    "run": ("", "generate images into a store of runs"),
    "import": ("eval.import", "a folder of images from elsewhere as a cell of a store"),
    "eval": ("eval.scoring.command", "score the runs of a store"),
    "report": ("eval.report.command", "tables, figures and a gallery of scored runs"),
    "figures": ("eval.figures.command", "one figure"),
    "gallery": ("eval.gallery.page", "a folder of HTML that opens from disk"),
    "votes": ("eval.votes.command", "win rates and scores from votes on pairs of images"),
    "answer": ("eval.answer.command", "a page: which method at which cost, with sentences from the records"),
    "verdict": ("eval.verdict.command", "the test of a search on fresh captions, and the page of its answers"),
    "published": ("eval.published.command", "the values of the papers beside ours"),
    "search": ("eval.search.command", "search over the keys of methods, with any number of workers"),
    "search-report": ("eval.search.report", "figures, table and winners of a search"),
    "export": ("eval.export", "all images and all cells as two Parquet files"),
    "track": ("eval.track", "send scores to a dashboard"),
    "catalogue": ("eval.catalogue", "all metrics, with what they need and their weights"),
    "store": ("sega.store.__main__", "check, list and clear a store"),
    "fetch": ("eval.fetch", "fetch weights of metrics"),
    "doctor": ("sega.doctor", "what is installed here, and what it lacks"),
    "new-method": ("sega.new_method", "write a method of your own, with a config and a test"),
}
"""Name of a command -> module whose `main(words)` it is, and what it does. Those of `eval` need `sega-bench[eval]`."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help", "help"):
        print("sega-bench <command> ...; `sega-bench <command> --help` explains one\n")
        for name, (_, what) in COMMANDS.items():
            print(f"  {name:<13} {what}")
        return 0 if words else 2
    command, *rest = words
    if command not in COMMANDS:
        print(f"sega-bench: unknown command {command!r}{near(command, COMMANDS)}", file=sys.stderr)
        return 2
    if command == "run":
        from sega.run.cli import main as run

        hooks = import_module(f"{package('eval')}.hooks").HOOKS
        return run(rest, hooks, program="sega-bench run")
    module, _ = COMMANDS[command]
    room, _, inside = module.partition(".")
    module = f"{package(room)}.{inside}" if room == "eval" else module
    try:
        return import_module(module).main(rest)
    except ModuleNotFoundError as error:
        if room != "eval" or (error.name or "").split(".")[0] in ("sega", "sega_bench", "eval"):
            raise
        print(f"sega-bench: {command} needs {error.name}: pip install 'sega-bench[eval]'", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
