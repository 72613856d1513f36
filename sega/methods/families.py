"""Families of transformers, each declared once: what formulas ask of it, and which classes it has.

A family of another package is an entry point `sega_bench.models` that names a `Family`, with a config in the style of
`conf/model`. `docs/adding-a-model.md` says what an adapter has to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sega import plugins
from sega.errors import RequestError, near


@dataclass(frozen=True)
class Family:
    """One architecture and the pipelines on it."""

    name: str  # `geometry.family` in the configs of its models
    transformer: str  # class name of the transformer in diffusers
    adapter: str  # "module:Class" of the adapter; loaded when a pipeline is there
    pipelines: tuple[str, ...]  # class names of the pipelines that can be run
    text: str = "shared"  # "shared": text has the rotary table of the image; "own": a table that methods leave alone
    ratio: str = "longer"  # SEGA's ratio to the training side: of the "longer" side on both axes, or "each" its own
    text_moves: bool = False  # whether text can be put at any position of the image grid
    guided: float | None = None  # true guidance, which takes a second call, applies above this; None: distilled


FAMILIES = {
    family.name: family
    for family in (
        Family("flux", "FluxTransformer2DModel", "sega.models.flux:FluxAdapter", ("FluxPipeline",), text_moves=True),
        Family(
            "flux2",
            "Flux2Transformer2DModel",
            "sega.models.flux2:Flux2Adapter",
            ("Flux2Pipeline", "Flux2KleinPipeline"),
        ),
        Family(
            "qwen",
            "QwenImageTransformer2DModel",
            "sega.models.qwen:QwenAdapter",
            ("QwenImagePipeline",),
            text="own",
            ratio="each",
            guided=1.0,
        ),
        Family(
            "zimage",
            "ZImageTransformer2DModel",
            "sega.models.zimage:ZImageAdapter",
            ("ZImagePipeline",),
            guided=0.0,
        ),
    )
}
"""The families that are built in."""


def families() -> Iterator[Family]:
    """The families that are built in, then those of other packages, which are looked up when the walk gets there."""
    yield from FAMILIES.values()
    for entry in plugins.entries("models").values():
        family = plugins.load(entry)
        if not isinstance(family, Family):
            raise plugins.broken(entry, "it is no Family of sega")
        if family.name not in FAMILIES:
            yield family


def family_named(name: str) -> Family:
    """A family by its name. Unknown names raise RequestError with near matches."""
    for family in families():
        if family.name == name:
            return family
    known = [family.name for family in families()]
    raise RequestError(f"geometry.family={name!r} is unknown{near(name, known)}")


def family_of_pipeline(name: str) -> Family | None:
    """The family of a pipeline by its class name; None where no family has it."""
    return next((family for family in families() if name in family.pipelines), None)


def family_of_transformer(*names: str) -> Family | None:
    """The family of a transformer by the names of its class and of the classes it derives from."""
    return next((family for name in names for family in families() if family.transformer == name), None)


def pipelines() -> list[str]:
    """Class names of all pipelines that can be run."""
    return [name for family in families() for name in family.pipelines]
