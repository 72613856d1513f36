"""The figures of the report, one command each: `python -m eval.figures attention method=ntk,sega`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near

from .. import options as arguments
from ..output.manifest import Made, inputs, part

HELP = """usage: python -m eval.figures [figure ...] [key=value ...]

Draws figures from records, each only when its records have changed; all that can be drawn where none is named.

  grid       pictures of all methods, a magnified crop at the same place in each; a file for each size
  size       scores against size
  cost       scores against what a picture costs
  scaling    magnitude of each rotary pair at each step, and strength over steps (SEGA, figure 3)
  attention  where a chosen token looks, for several methods (SEGA, figure 4)
  spectra    spectrum of the latent over time

The last three need steps that run.py recorded: record=[magnitudes,spectrum,attention] query=[0.5,0.6].

  python -m eval.figures grid columns=6 crop=0.5,0.6,0.2
  python -m eval.figures attention method=ntk,sega size=2x prompt=a-red-ball

  out      results/report   where the figures go
{selection}
  size                      only this size, such as size=2048x2048, or size=2x for twice the training side
  columns  4                prompts in a grid
  crop     0.5,0.55,0.25    centre and side of the magnified crop, as fractions of the picture
  cost     seconds          what a picture costs: seconds, calls or memory
  prompt, seed              whose steps are shown; the first prompt and seed that most methods have
  force    false            draw again""".replace("{selection}", arguments.SELECTION)

KEYS = arguments.KEYS | {
    "out": "results/report",
    "size": None,
    "columns": "4",
    "crop": "0.5,0.55,0.25",
    "cost": "seconds",
    "prompt": None,
    "seed": None,
    "force": "false",
}
SCORES = ("grid", "size", "cost")
STEPS = ("scaling", "attention", "spectra")
EMPTY = "no image in the store has recorded steps"


@dataclass(frozen=True)
class Options:
    """What figures are drawn of, and how."""

    store: Path
    out: Path
    model: str | None
    method: str | None
    size: str | None
    columns: int
    crop: tuple[float, ...]
    cost: str
    prompt: str | None
    seed: int | None
    force: bool

    @property
    def selection(self) -> dict[str, str | None]:
        """What is drawn; a figure of less than everything is remembered apart."""
        return {"model": self.model, "method": self.method, "size": self.size}

    @property
    def drawing(self) -> list[Any]:
        """What changes a figure besides the records."""
        return [self.size, self.columns, self.crop, self.cost, self.prompt, self.seed]


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    return arguments.command(words, HELP, figures)


def options_of(found: dict[str, Any]) -> Options:
    """Options from words, checked."""
    from .scores import COST_AXES

    if found["cost"] not in COST_AXES:
        raise RequestError(f"cost={found['cost']} is not one of {', '.join(COST_AXES)}{near(found['cost'], COST_AXES)}")
    crop = arguments.fractions(found, "crop", "x,y,side")
    if crop[2] == 0:
        raise RequestError("crop: the side of the crop must be larger than 0")
    arguments.check_size(found["size"])
    seed = None if found["seed"] is None else arguments.whole(found, "seed", least=0)
    return Options(
        Path(found["store"]),
        Path(found["out"]),
        found["model"],
        found["method"],
        found["size"],
        arguments.whole(found, "columns"),
        crop,
        found["cost"],
        found["prompt"],
        seed,
        found["force"] == "true",
    )


def figures(words: list[str]) -> int:
    """Draw what the words ask for."""
    named = [word for word in words if "=" not in word]
    for name in named:
        if name not in SCORES + STEPS:
            raise RequestError(f"unknown figure {name}{near(name, SCORES + STEPS)}")
    found = arguments.parse([word for word in words if "=" in word], KEYS)
    options = options_of(found)
    wanted = named or SCORES + STEPS
    rows = arguments.scored(found) if set(wanted) & set(SCORES) else []
    files, fresh = [], False
    for name in wanted:
        made = draw(name, rows, options)
        for what, why in made.skipped.items():
            if named and not made.files:
                raise RequestError(f"no {what}: {why}")
            print(f"no {what}: {why}")
        files, fresh = files + made.files, fresh or made.fresh
    if not fresh:
        print("nothing has changed since the figures were made (force=true makes them again)")
    for path in files:
        print(path)
    return 0


def draw(name: str, rows: list, options: Options) -> Made:
    """One kind of figure, for every model, protocol and size there is."""
    title = " ".join([name, *(f"{key}={value}" for key, value in options.selection.items() if value)])
    if name in SCORES:
        rows = [row for row in rows if arguments.is_size(options.size, row.run.model, row.size)]
        pictures = [[str(p.path), p.path.is_file()] for row in rows for p in row.pictures.values()]
        state = inputs(rows, [options.drawing, pictures if name == "grid" else None])
        return part(options.out, title, state, lambda made: _from_scores(name, rows, options, made), options.force)
    from ..records.steps import load

    recorded = load(options.store, options.model, options.method)
    recorded = [item for item in recorded if arguments.is_size(options.size, item.run.model, item.size)]
    state = inputs([], options.drawing, [file for item in recorded for file in item.files])
    return part(options.out, title, state, lambda made: _from_steps(name, recorded, options, made), options.force)


def _from_scores(name: str, rows: list, options: Options, made: Made) -> None:
    from ..report import tables
    from . import grid
    from . import scores as plots

    groups = tables.grouped(rows)
    for (model, protocol), group in groups.items():
        suffix = model if len([1 for m, _ in groups if m == model]) == 1 else f"{model}-{protocol}"
        caption = tables.EMBEDDED if tables.is_embedded(group) else ""
        if name == "size":
            made.drawing(options.out / f"scores-{suffix}.png", lambda g=group, c=caption: plots.against_size(g, c))
        elif name == "cost":
            made.drawing(
                options.out / f"cost-{suffix}.png", lambda g=group, c=caption: plots.against_cost(g, c, options.cost)
            )
        else:
            for size in dict.fromkeys(row.size for row in group if row.run.width):
                same = [row for row in group if row.size == size]
                made.drawing(
                    options.out / f"grid-{suffix}-{size}.png",
                    lambda s=same: grid.grid(s, options.columns, options.crop[:2], options.crop[2]),
                )
            if any(row.run.width is None for row in group):
                made.skipped[f"grid-{suffix}"] = "pictures of several sizes"


def _from_steps(name: str, recorded: list, options: Options, made: Made) -> None:
    from ..records.steps import MAKE, of_size, one_prompt
    from ..report import tables
    from . import steps as stepplots

    if not recorded:
        made.skipped[name] = f"{EMPTY}; {MAKE}"
    for model, size in dict.fromkeys((item.run.model, item.size) for item in recorded):
        same = of_size(recorded, model, size)
        caption = tables.EMBEDDED if model == "tiny" else ""

        def drawing(same=same, caption=caption):
            chosen = one_prompt(same, options.prompt, options.seed)
            if name == "scaling":
                return stepplots.scaling(chosen, same, caption)
            return getattr(stepplots, name)(chosen, caption)

        made.drawing(options.out / f"{name}-{model}-{size}.png", drawing)
