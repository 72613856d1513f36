"""Recognise a name, a folder or a loaded pipeline as a model of `conf/model`. Does not import torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError, near
from sega.home import CONF
from sega.loading.folder import Component, read_json
from sega.loading.weights import HERE
from sega.methods.families import family_of_pipeline, pipelines
from sega.methods.geometry import Geometry, build_geometry, load_geometry, models

if TYPE_CHECKING:
    from sega.loading.schema import ModelConfig

AXES = ("axes_dims_rope", "axes_dims")
"""Where the configs of stock transformers name their rotary dimensions."""


def model_config(model: Any) -> ModelConfig:
    """The `model` block as run.py composes it, for a name, the folder of a checkpoint, or a loaded pipeline.

    A folder that ships with the project is its model. Others, and pipelines, are recognised by class and rotary axes;
    checkpoints that share both (FLUX.1-dev and its relatives) share the block of the first, with `path` set to the
    folder. Raises RequestError with near matches.
    """
    if not isinstance(model, str | Path):
        return _composed(_recognised(type(model).__name__, dict(model.transformer.config), "this pipeline"))
    if str(model) in models():
        return _composed(str(model))
    folder = Path(model).expanduser()
    if not (folder / "model_index.json").is_file():
        raise RequestError(
            f"unknown model {str(model)!r}{near(str(model), models())}; give one of {', '.join(models())}, or the "
            "folder of a diffusers pipeline"
        )
    pipeline = read_json(folder / "model_index.json").get("_class_name")
    config = folder / "transformer" / "config.json"
    if not config.is_file():
        raise RequestError(f"{folder} is incomplete: transformer/config.json is missing; fetch it again")
    name = _shipped(folder) or _recognised(str(pipeline), read_json(config), str(folder))
    return _composed(name) | {"path": str(folder.resolve())}


def _shipped(folder: Path) -> str | None:
    """The name of the model whose weights are this folder of the project."""
    paths = {name: _composed(name)["path"] for name in models()}
    return next((name for name, path in paths.items() if path and folder.resolve() == (HERE / path).resolve()), None)


def _recognised(pipeline: str, transformer: dict[str, Any], what: str) -> str:
    """The name of the first model of this class and these axes, the one named as its family before others."""
    known = family_of_pipeline(pipeline)
    if known is None:
        raise RequestError(f"{what} is a {pipeline}; only {', '.join(pipelines())} are known")
    family = known.name
    axes = next((list(transformer[key]) for key in AXES if transformer.get(key)), None)
    found = []
    for name in sorted(models(), key=lambda name: (name != family, name)):
        geometry = load_geometry(name)
        # A family with a fourth axis of its own (FLUX.2) says nothing that tells its models apart.
        if geometry.family == family and (axes is None or len(axes) != 3 or axes == list(geometry.axes)):
            found.append(name)
    if not found:
        raise RequestError(f"{what} has rotary axes {axes}, and no model in conf/model of the family {family} has them")
    return found[0]


def _composed(name: str) -> ModelConfig:
    from omegaconf import OmegaConf

    config = OmegaConf.load(CONF / "model" / f"{name}.yaml")
    config.pop("defaults", None)  # of other groups
    return OmegaConf.to_container(OmegaConf.merge(OmegaConf.load(CONF / "loading.yaml"), config), resolve=True)


def published(model: ModelConfig) -> dict[str, Component]:
    """The parts of the published checkpoint, from the model's config."""
    block = model["published"] or {}
    return {name: Component(int(part["parameters"]), part.get("config") or {}) for name, part in block.items()}


def geometry_of(model: Any) -> Geometry:
    """The geometry of a name, a folder or a loaded pipeline; a pipeline's own rotary base counts."""
    geometry = build_geometry(model_config(model)["geometry"])
    theta = getattr(getattr(getattr(model, "transformer", None), "pos_embed", None), "theta", geometry.theta)
    return replace(geometry, theta=theta)
