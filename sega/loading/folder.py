"""Inspect a pipeline folder without loading it: its class, whether it is complete, the size of its components.

Only safetensors are accepted, and only classes of diffusers and transformers: nothing in a folder is ever run.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sega.errors import RequestError
from sega.methods.families import families, family_of_pipeline, family_of_transformer, pipelines

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
WITHOUT_WEIGHTS = ("Scheduler", "Tokenizer", "TokenizerFast", "TokenizersBackend", "Processor")


@dataclass(frozen=True)
class Component:
    """Weights of one part of a pipeline."""

    parameters: int
    config: dict[str, Any]


def check_index(index: Path, name: str, family: str, ways_out: str = "") -> dict[str, Any]:
    """Return the components named in a model_index.json; refuse unknown transformers and custom code."""
    folder = index.parent
    if not index.is_file():
        raise RequestError(f"{folder} has no model_index.json, so it is no diffusers pipeline{ways_out}")
    parts = read_json(index)
    transformer = (parts.get("transformer") or [None, None])[1]
    if family_of_transformer(transformer) is None:
        known = ", ".join(family.transformer for family in families())
        raise RequestError(f"{folder} holds a {transformer}; there are adapters for {known}")
    pipeline = parts.get("_class_name")
    its = family_of_pipeline(pipeline) if isinstance(pipeline, str) else None
    if its is None:
        raise RequestError(f"{folder} is a {pipeline}; only {' and '.join(pipelines())} can be run")
    if its.name != family:
        raise RequestError(
            f"{folder} is a {pipeline}, but model={name} is of the family {family}; choose another model"
        )
    for part, entry in _parts(parts).items():
        if entry[0] not in ("diffusers", "transformers"):
            raise RequestError(f"{folder} asks for code of its own ({entry[0]} for {part}); such code is never run")
    return parts


def check_pipeline(folder: Path, name: str, family: str, ways_out: str = "") -> None:
    """Refuse a folder that is no complete diffusers pipeline of the family, with safetensors alone."""
    for part, entry in _parts(check_index(folder / "model_index.json", name, family, ways_out)).items():
        place = folder / part
        if not place.is_dir():
            raise RequestError(f"{folder} is incomplete: the folder {part} is missing; fetch it again")
        if entry[1].endswith(WITHOUT_WEIGHTS):
            continue
        here = {path.name for path in place.iterdir()}
        for shards in place.glob("*.safetensors.index.json"):
            missing = sorted(set(read_json(shards)["weight_map"].values()) - here)
            if missing:
                raise RequestError(f"{folder} is incomplete: {part}/{missing[0]} is missing; fetch it again")
        if not any(file.endswith(".safetensors") for file in here):
            pickled = sorted(file for file in here if file.endswith(PICKLED))
            why = f"only pickled weights ({pickled[0]}), which are never loaded" if pickled else "no weights"
            raise RequestError(f"{folder}: the folder {part} holds {why}; fetch its .safetensors files")
        _tensors(place)


def _parts(index: dict[str, Any]) -> dict[str, list[str]]:
    entries = {part: entry for part, entry in index.items() if not part.startswith("_") and isinstance(entry, list)}
    return {part: entry for part, entry in entries.items() if entry[0]}


def read_parts(folder: Path) -> dict[str, Component]:
    """Return the components that have weights, by name."""
    found = {}
    for place in sorted(path for path in folder.iterdir() if any(path.glob("*.safetensors"))):
        config = read_json(place / "config.json") if (place / "config.json").is_file() else {}
        found[place.name] = Component(sum(math.prod(shape) for shape in _tensors(place)), config)
    return found


def _tensors(place: Path) -> list[list[int]]:
    """The shape of every tensor, from the headers of the files that will be loaded."""
    indexed = sorted(place.glob("*.safetensors.index.json"))
    names = sorted(set(read_json(indexed[0])["weight_map"].values())) if indexed else []
    found = []
    # Where variants lie beside each other (model.fp16.safetensors), the plain name is the one that is loaded.
    for file in [place / name for name in names] or sorted(place.glob("*.safetensors"), key=lambda p: len(p.name))[:1]:
        found += _header(file)
    return found


def _header(file: Path) -> list[list[int]]:
    """The safetensors header: 8 bytes of length, JSON, then the data, whose end the JSON tells."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if length < size else b""
    try:
        entries = {key: value for key, value in json.loads(text).items() if key != "__metadata__"}
        end = max((value["data_offsets"][1] for value in entries.values()), default=0)
        shapes = [value["shape"] for value in entries.values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{file} is no safetensors file or is damaged; fetch it again") from error
    if size != 8 + length + end:
        raise RequestError(f"{file} is cut short or damaged: {size} bytes, not {8 + length + end}; fetch it again")
    return shapes


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise RequestError(f"{path} is damaged ({error}); fetch it again") from error
