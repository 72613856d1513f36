"""What fits on a card: the memory plan of an image of a published model, without weights. Does not import torch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sega.loading import memory
from sega.loading.known import model_config, published
from sega.methods.sizes import parse_size
from sega.methods.types import Stage

if TYPE_CHECKING:
    from sega.loading.schema import ModelConfig

CARDS = (24, 48, 80)
"""GB of common cards. They have 24, 48 and 80 GiB or a little less, so some 7 % are left to the driver and others."""
MODELS = ("flux", "qwen")
SIZES = ("1x", "2x", "4x")


class Fit(NamedTuple):
    """A model at a size on a card."""

    model: str
    res: str
    size: tuple[int, int]  # pixels (width, height)
    card: float  # GB
    quantize: str | None
    plan: memory.Placement


def fit(name: str, res: str, card: float, quantize: str | None = None) -> Fit:
    """The plan for an image of a model at `res` with `card` GB. Methods that attend to less need no more."""
    config = cast("ModelConfig", _config(name) | {"quantize": quantize})
    size = parse_size(res, config["native"], config["geometry"]["token_pixels"])
    estimate = memory.estimate(config, published(config), [Stage(size, 1, 1.0)])
    return Fit(name, res, size, card, quantize, memory.choose(config, estimate, "cuda", card * memory.GB))


@cache
def _config(name: str) -> Any:
    return model_config(name)


def table(cards: dict[str, float]) -> Iterator[str]:
    """Lines of a table: a row for each model and size, a column for each card, in it the placement and its GB.

    `cards` gives the GB of each by its heading.
    """
    yield "              " + "".join(f"{heading:<15}" for heading in cards).rstrip()
    for name in MODELS:
        for res in SIZES:
            row = [fit(name, res, card) for card in cards.values()]
            cells = "".join(f"{_cell(item):<15}" for item in row).rstrip()
            yield f"{f'{name} {row[0].size[0]} px':<14}{cells}"


def _cell(item: Fit) -> str:
    needs = item.plan.estimate.needs(item.plan.mode) if item.plan.estimate else 0.0
    return f"{item.plan.mode} {needs / memory.GB:.0f}" if item.plan.fits else "too large"


def recipes(card: float) -> Iterator[tuple[str, Fit]]:
    """Command lines for a card: each model at 2x and 4x as the plan places it, and quantised where it then fits whole.

    Of the quantised lines only the one with more bits is given, and none where the weights fit as they are.
    """
    for name in MODELS:
        for res in ("2x", "4x"):
            options = [fit(name, res, card, quantize) for quantize in (None, "8bit", "4bit")]
            whole = next((item for item in options if item.plan.mode == "gpu" and item.plan.fits), None)
            for item in dict.fromkeys((options[0], whole)):
                if item is not None and item.plan.fits:
                    yield command(item), item


def command(item: Fit) -> str:
    """The words of a run of that plan."""
    words = f"model={item.model} method=sega res={item.res} model.memory={item.plan.mode}"
    return words + (f" model.quantize={item.quantize}" if item.quantize else "")
