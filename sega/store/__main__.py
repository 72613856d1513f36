"""`python -m sega.store`: see `sega.store.upkeep`."""

import sys
from typing import Any, cast

from sega.errors import RequestError
from sega.store import upkeep


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return upkeep.main(words, meaning)


def meaning(config: dict[str, Any], identity: dict[str, Any]) -> dict[str, Any] | None:
    """The identity that a recorded configuration has today, with the weights of then; None where that can't be told."""
    from sega.run.cell import build_cell
    from sega.run.schema import CellConfig

    try:
        return build_cell(cast(CellConfig, config)).folder_for(identity["model"]["weights"]).identity
    except (RequestError, KeyError, TypeError):  # a file it names is gone, or its keys are of another version
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
