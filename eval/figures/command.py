"""Draw the figures of the report, all or by name: `python -m eval.figures attention method=ntk,sega`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near

from .. import options
from ..output.manifest import Made, inputs, part
from ..records.rows import EMBEDDED, Row, grouped, is_embedded, richest
from ..records.steps import MAKE, Recorded, load, of_size
from . import scores, steps
from .crops import Crop
from .grid import grid, sheet
from .scores import COST_AXES
from .text import fonts_of, unwritten

HELP = """usage: python -m eval.figures [figure ...] [key=value ...]

Draws figures from records. A figure whose records have not changed is not drawn again. Without names it draws all.

  grid       images of all methods, each with a magnified crop of the same part; a file for each size
  methods    a sheet: the images of all methods for one prompt, with their names
  size       scores against size
  cost       scores against the cost of an image
  scaling    magnitude of each rotary pair at each step, and strength over steps (SEGA, figure 3)
  attention  attention of one token, for several methods (SEGA, figure 4)
  spectra    spectrum of the latent over the steps

The last three need step records, which runs with these make: record=[magnitudes,spectrum,attention] query=[0.5,0.6].

  python -m eval.figures grid columns=6 crop=differ,0.1
  python -m eval.figures attention method=ntk,sega size=2x prompt=a-red-ball

{options}"""
IMAGES = ("grid", "methods")
SCORES = (*IMAGES, "size", "cost")
STEPS = ("scaling", "attention", "spectra")
EMPTY = "no image in the store has step records"


def _size(found: dict[str, Any], key: str) -> str | None:
    options.check_size(found[key])
    return found[key]


def _cost(found: dict[str, Any], key: str) -> str:
    if found[key] not in COST_AXES:
        raise RequestError(f"cost={found[key]} is not one of {', '.join(COST_AXES)}{near(found[key], COST_AXES)}")
    return found[key]


def _seed(found: dict[str, Any], key: str) -> int | None:
    return None if found[key] is None else options.whole_number(found, key, least=0)


def _as_given(found: dict[str, Any], key: str) -> Any:
    return found[key]


def _word(default: str | None, about: str, read: Callable[[dict[str, Any], str], Any] = _as_given) -> Any:
    """Declare an option of the command line: its default, a line of help, and the function that checks and reads it."""
    return field(metadata={"default": default, "about": about, "read": read})


@dataclass(frozen=True)
class Options:
    """Options of the figures."""

    store: Path
    model: str | None
    method: str | None
    out: Path = _word("results/report", "folder of the figures", lambda found, key: Path(found[key]))
    size: str | None = _word(None, "only this size: size=2048x2048, or size=2x for twice the training size", _size)
    columns: int = _word("4", "prompts in a grid", options.whole_number)
    crop: Crop = _word(
        "differ", "magnified crop: differ, detail, either with a side (detail,0.1), or x,y,side", Crop.read
    )
    cost: str = _word("seconds", "cost of an image: seconds, calls or memory", _cost)
    prompt: str | None = _word(None, "id of the prompt of the sheet and the steps (default: the one most methods have)")
    seed: int | None = _word(None, "seed of the image of the sheet and the steps", _seed)
    force: bool = _word("false", "draw all again", lambda found, key: found[key] == "true")

    @classmethod
    def read(cls, found: dict[str, Any]) -> Options:
        """Read the options from words by name. A wrong value raises RequestError."""
        values = {item.name: item.metadata["read"](found, item.name) for item in WORDS}
        return cls(Path(found["store"]), found["model"], found["method"], **values)

    @property
    def selection(self) -> dict[str, str | None]:
        """The selected runs. A figure of a selection has its own entry in the manifest."""
        return {"model": self.model, "method": self.method, "size": self.size}

    @property
    def drawing(self) -> list[Any]:
        """The options that change a figure, besides the records."""
        return [self.size, self.columns, self.crop, self.cost, self.prompt, self.seed]


WORDS = [item for item in fields(Options) if item.metadata]
KEYS = options.KEYS | {item.name: item.metadata["default"] for item in WORDS}


def help_text() -> str:
    """Return the text of --help: the figures and the declared options."""
    lines = [f"  {item.name:<8} {item.metadata['default'] or '':<16} {item.metadata['about']}" for item in WORDS]
    return HELP.replace("{options}", "\n".join([options.SELECTION, *lines]))


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return options.command(words, help_text, figures)


def figures(words: list[str]) -> int:
    """Draw the figures that the words select."""
    named = [word for word in words if "=" not in word]
    for name in named:
        if name not in SCORES + STEPS:
            raise RequestError(f"unknown figure {name}{near(name, SCORES + STEPS)}")
    found = options.parse([word for word in words if "=" in word], KEYS)
    chosen = Options.read(found)
    wanted = named or SCORES + STEPS
    rows = options.scored(found) if set(wanted) & set(SCORES) else []
    files, fresh = [], False
    for name in wanted:
        made = draw(name, rows, chosen)
        for what, why in made.skipped.items():
            if named and not made.files:
                raise RequestError(f"no {what}: {why}")
            print(f"no {what}: {why}")
        files, fresh = files + made.files, fresh or made.fresh
    if not fresh:
        print("the figures are up to date (force=true draws them again)")
    for path in files:
        print(path)
    return 0


def draw(name: str, rows: list[Row], chosen: Options) -> Made:
    """Draw one kind of figure, for every model, protocol and size."""
    title = " ".join([name, *(f"{key}={value}" for key, value in chosen.selection.items() if value)])
    if name in SCORES:
        rows = [row for row in rows if options.is_size(chosen.size, row.run.model, row.size)]
        images = [p for row in rows for p in row.images.values()] if name in IMAGES else []
        texts = {row.label for row in rows} | {p.prompt or "" for p in images}
        known_images = [[str(p.path), p.path.is_file()] for p in images]
        state = inputs(rows, [chosen.drawing, known_images, fonts_of(texts)])
        made = part(chosen.out, title, state, lambda made: _from_scores(name, rows, chosen, made), chosen.force)
    else:
        recorded = load(chosen.store, chosen.model, chosen.method)
        recorded = [item for item in recorded if options.is_size(chosen.size, item.run.model, item.size)]
        texts = {text for item in recorded for text in (item.label, item.image.prompt or "")}
        state = inputs([], [chosen.drawing, fonts_of(texts)], [file for item in recorded for file in item.files])
        made = part(chosen.out, title, state, lambda made: _from_steps(name, recorded, chosen, made), chosen.force)
    if made.fresh and (line := unwritten(texts)):
        print(line, file=sys.stderr)
    return made


def _from_scores(name: str, rows: list[Row], chosen: Options, made: Made) -> None:
    groups = grouped(richest(rows) if name in ("grid", "methods") else rows)
    most: dict[str, str] = {}  # of each model, the richest protocol: its files have the plain name
    for model, protocol in sorted(groups, key=lambda key: groups[key][0].richness, reverse=True):
        most.setdefault(model, protocol)
    for (model, protocol), group in groups.items():
        suffix = model if most[model] == protocol else f"{model}-{protocol}"
        caption = EMBEDDED if is_embedded(group) else ""
        if name == "size":
            made.drawing(chosen.out / f"scores-{suffix}.png", lambda g=group, c=caption: scores.against_size(g, c))
        elif name == "cost":
            made.drawing(
                chosen.out / f"cost-{suffix}.png", lambda g=group, c=caption: scores.against_cost(g, c, chosen.cost)
            )
        else:
            for size in dict.fromkeys(row.size for row in group if row.run.width):
                same = [row for row in group if row.size == size]
                made.drawing(chosen.out / f"{name}-{suffix}-{size}.png", lambda s=same: _images(name, s, chosen))
            if any(row.run.width is None for row in group):
                made.skipped[f"{name}-{suffix}"] = "images of several sizes"


def _images(name: str, rows: list[Row], chosen: Options) -> Any:
    if name == "grid":
        return grid(rows, chosen.columns, chosen.crop)
    return sheet(rows, chosen.crop, chosen.prompt, chosen.seed)


OF_STEPS = {"attention": steps.attention, "spectra": steps.spectra}
"""Figures of one image per method, by name. Scaling maps show the other images of a cell too."""


def _from_steps(name: str, recorded: list[Recorded], chosen: Options, made: Made) -> None:
    if not recorded:
        made.skipped[name] = f"{EMPTY}; {MAKE}"
    for model, size in dict.fromkeys((item.run.model, item.size) for item in recorded):
        same = of_size(recorded, model, size)
        caption = EMBEDDED if same[0].run.is_embedded else ""

        def drawing(same=same, caption=caption):
            images = steps.one_prompt(same, chosen.prompt, chosen.seed)
            return steps.scaling(images, same, caption) if name == "scaling" else OF_STEPS[name](images, caption)

        made.drawing(chosen.out / f"{name}-{model}-{size}.png", drawing)
