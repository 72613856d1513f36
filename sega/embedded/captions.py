"""Captions of the embedded world. Those of seed 0 that most requests ask for are kept in `captions.json`.

Drawing them takes numpy, which would be a fifth of the time of a dry run. A test holds the file equal to the world.
"""

from __future__ import annotations

import json
from pathlib import Path

KEPT = Path(__file__).parent / "captions.json"
COUNT = 128
"""Captions in the file: the first ones of seed 0."""


def captions(seed: int, count: int) -> list[str]:
    """The first `count` captions of the endless list of `seed`; some may be equal."""
    if seed == 0 and count <= COUNT:
        return json.loads(KEPT.read_text())[:count]
    from sega.embedded.world import prompts

    return prompts(seed, count)


def write() -> None:
    """Write the file: `python -c "from sega.embedded.captions import write; write()"`."""
    from sega.embedded.world import prompts

    KEPT.write_text(json.dumps(prompts(0, COUNT), indent=1) + "\n")
