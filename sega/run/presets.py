"""What a preset of `conf/experiment` sweeps over, as words of a command line."""

from __future__ import annotations

from sega.errors import RequestError
from sega.methods.geometry import build_geometry
from sega.methods.sizes import is_multiple, parse_size

PUBLISHED = 1024
"""The smallest training side, in px, that the sizes of presets are meant for. Smaller models get them in proportion."""


def swept_words(whole, words: list[str], multirun: bool) -> list[str]:
    """Words for the `hydra.sweeper.params` of a configuration, but for keys that `words` sets; Hydra is given none.

    `whole` is a composed configuration with Hydra's part. Raises RequestError without -m.
    """
    params = whole.hydra.sweeper.get("params")
    if not params:
        return []
    if not multirun:
        raise RequestError("this experiment runs several cells: add -m")
    given = {word.split("=")[0] for word in words}
    swept = {key: str(value) for key, value in params.items() if key not in given}
    if "res" in swept:
        swept["res"] = ",".join(_fit(size.strip(), whole.model) for size in swept["res"].split(","))
    if whole.model.native < PUBLISHED:  # no published prompts or scores fit it: those of its own world
        swept |= {key: "embedded" for key in ("prompts", "eval") if key not in given}
    return [*(f"{key}={value}" for key, value in swept.items()), "hydra.sweeper.params=null"]


def _fit(size: str, model) -> str:
    if model.native >= PUBLISHED or is_multiple(size):
        return size
    step = build_geometry(model.geometry).token_pixels
    published = parse_size(size, PUBLISHED, step)
    sides = [max(round(side * model.native / PUBLISHED / step), 1) * step for side in published]
    return "x".join(map(str, sides))
