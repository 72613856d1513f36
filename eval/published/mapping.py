"""Say how a published row is run here: the data of `rows.yaml`, which maps names of papers to methods and presets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("rows.yaml")


@dataclass(frozen=True)
class Answer:
    """What runs a row: a preset, and a method with its options, `dype base=ntk`. Or why nothing does."""

    preset: str = ""
    run: str = ""
    why: str = ""

    @property
    def words(self) -> str:
        """The method as words of a command line: `method=dype method.base=ntk`."""
        name, *options = self.run.split()
        return " ".join([f"method={name}", *(f"method.{option}" for option in options)])


@cache
def mapping() -> dict[str, Any]:
    """Return the content of `rows.yaml`."""
    import yaml

    return yaml.safe_load(FILE.read_text())


@cache
def answer(paper: str, table: str, model: str, method: str) -> Answer:
    """Return how a row is run, from its names as printed."""
    known = mapping()
    own = next((t for t in known["tables"] if (t["paper"], t["table"], t["model"]) == (paper, table, model)), None)
    if own is None:
        return Answer(why="rows.yaml has no such table")
    if "why" in own:
        return Answer(why=own["why"])
    for entry in (own, known):
        if method in entry.get("methods", {}):
            return Answer(own["preset"], entry["methods"][method])
        if method in entry.get("missing", {}):
            return Answer(why=entry["missing"][method])
    return Answer(why="rows.yaml has no such method")


@cache
def label(run: str) -> str:
    """Return the label that runs of a method have in our tables: `dype base=ntk` is `dype (base=ntk, lambda_s=2)`.

    Runs with weights of their own are labelled by the content of these, which is not known here.
    """
    from sega.loading.methods import load_method

    from ..records.labels import changed

    name, *options = run.split()
    if "weights=" in run:
        return f"{name} ({', '.join(options)})"
    return changed(name, load_method(name, overrides=options).parameters(), load_method(name).parameters())
