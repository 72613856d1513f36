"""Find weights, name them by content, load the stock pipeline. Only what loads imports torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sega.errors import RequestError, near
from sega.loading.folder import check_index, check_pipeline, read_json
from sega.loading.hub import cached, fetch, hub_cache

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
ROOT = Path(__file__).resolve().parents[2]
HASHES = ROOT / "results" / "cache" / "weights.json"
"""Content hashes of weight folders, kept by the names, sizes and times of their files."""


@dataclass(frozen=True)
class Weights:
    """A diffusers pipeline folder on this machine."""

    folder: Path
    commit: str | None = None  # of the hub repository, where it comes from the hub's cache


class Absent(RequestError):
    """The weights are not on this machine."""


def find_weights(model: dict[str, Any]) -> Weights:
    """The weights a model config asks for: the folder `path`, or the repository that `path` or `id` names.

    A repository is taken from the hub's cache; it is fetched only where `download` asks for it.
    """
    name, family = model["name"], model["geometry"]["family"]
    path = Path(str(model["path"] or "")).expanduser()
    folder = path if path.is_absolute() or path.exists() else ROOT / path
    if not model["path"] or (not folder.is_dir() and REPOSITORY.fullmatch(str(model["path"]))):
        return _from_hub(model)
    if not folder.is_dir():
        raise Absent(f"model.path={path} is not a folder{_ways_out(name)}")
    check_pipeline(folder.resolve(), name, family, _ways_out(name))
    return Weights(folder.resolve())


def source(model: dict[str, Any]) -> str:
    """The name by which weights are known in an identity: a repository where `path` names one, else the `id`."""
    path = str(model["path"] or "")
    there = any(place.is_dir() for place in (Path(path).expanduser(), ROOT / path))
    return path if REPOSITORY.fullmatch(path) and not there else model["id"]


def _from_hub(model: dict[str, Any]) -> Weights:
    name, family, revision = model["name"], model["geometry"]["family"], model["revision"]
    repository = source(model)
    if model["download"]:
        folder, commit = fetch(repository, revision, lambda index: check_index(index, name, family))
    else:
        found = cached(repository, revision)
        if found is None:
            which = f"{repository} at revision {revision}" if revision else repository
            raise Absent(
                f"the weights of {which} are not on this machine (looked in {hub_cache()})"
                f"{_ways_out(name, ', model.download=true')}"
            )
        folder, commit = found
    check_pipeline(folder, name, family, _ways_out(name))
    return Weights(folder, commit)


def _ways_out(name: str, fetch: str = "") -> str:
    if name == "tiny":
        return "; make them with `make train-embedded`, or give model.path=<folder>"
    return f"; give model.path=<folder of the checkpoint>{fetch}, or use model=tiny, which ships with the project"


def fingerprint(weights: Weights) -> str:
    """What the pixels depend on: the commit in the hub, or a hash over every weight and config file of a folder."""
    known = known_fingerprint(weights)
    if known:
        return known
    total = hashlib.sha256()
    for path in _files(weights.folder):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(weights.folder)} {digest}\n".encode())
    hashes = _known_hashes() | {_key(weights.folder): total.hexdigest()[:16]}
    HASHES.parent.mkdir(parents=True, exist_ok=True)
    scratch = HASHES.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_text(json.dumps(hashes, indent=1))
    scratch.replace(HASHES)
    return hashes[_key(weights.folder)]


def known_fingerprint(weights: Weights) -> str | None:
    """The fingerprint where it is known without reading the weights."""
    return weights.commit or _known_hashes().get(_key(weights.folder))


def _files(folder: Path) -> list[Path]:
    kinds = (".safetensors", ".json", ".txt", ".model")
    return sorted(path for path in folder.rglob("*") if path.suffix in kinds and path.is_file())


def _key(folder: Path) -> str:
    stats = [(str(path.relative_to(folder)), path.stat()) for path in _files(folder)]
    seen = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    return hashlib.sha256(json.dumps([str(folder), seen]).encode()).hexdigest()[:16]


def _known_hashes() -> dict[str, str]:
    try:
        return json.loads(HASHES.read_text())
    except (FileNotFoundError, ValueError):  # only a cache: a damaged one is made anew
        return {}


def load_pipeline(model: str | Path = "flux", device: str = "auto", **changes: Any):
    """The stock diffusers pipeline of a model, ready to use: `load_pipeline("tiny")`, `load_pipeline("flux")`.

    `model` is a name of `conf/model` or the folder of a checkpoint. `changes` are keys of the model's config, such as
    `path="/models/FLUX.1-dev"`, `dtype="float32"`, `memory="offload"` or `download=True`. The text encoders are loaded
    too (run.py keeps embeddings on disk instead). Without height and width it makes images of the training size.
    Raises RequestError where the weights are not on this machine.
    """
    from sega.loading.devices import device_for
    from sega.loading.known import model_config

    config = model_config(model)
    for key in changes:
        if key not in config:
            raise RequestError(f"load_pipeline: unknown key {key!r}{near(key, config)}")
    config |= {"text_cache": None} | changes
    device = device_for(device)
    mode = "gpu" if config["memory"] == "auto" or device == "cpu" else config["memory"]
    pipe = open_pipeline(config, find_weights(config), device, mode)
    pipe.default_sample_size = config["native"] // pipe.vae_scale_factor
    return pipe


def open_pipeline(model: dict[str, Any], weights: Weights, device: str, mode: str = "gpu"):
    """The stock pipeline, placed as `mode` says, with the rotary base of the model's geometry.

    With a `text_cache` it comes without text encoders: `load_text_encoders` gives them, before and apart.
    """
    import torch

    from sega.loading.parallel import SPLIT, split, spread
    from sega.loading.placement import place, quantization, switch
    from sega.methods.geometry import build_geometry

    dtype = getattr(torch, model["dtype"])
    options = {"quantization_config": quantization(model["quantize"], dtype, ["transformer"])}
    if model["text_cache"]:
        options |= {part: None for part in text_parts(weights.folder)}
    pipe = _load(weights.folder, dtype, device, options)
    set_theta(pipe.transformer, build_geometry(model["geometry"]).theta)
    switch(pipe.transformer, model["attention"], model["compile"])
    if model["parallel"] == "blocks":
        spread(pipe, device)
    else:
        place(pipe, mode, device)
    if model["parallel"] in SPLIT:
        split(pipe.transformer, model["parallel"], device)
    return pipe


def load_text_encoders(model: dict[str, Any], weights: Weights, device: str, mode: str = "gpu"):
    """The pipeline with its text encoders alone."""
    import torch

    from sega.loading.placement import place

    pipe = _load(weights.folder, getattr(torch, model["dtype"]), device, {"transformer": None, "vae": None})
    place(pipe, mode, device)
    return pipe


def text_parts(folder: Path) -> list[str]:
    """The names of the parts that only read text."""
    return [part for part in read_json(folder / "model_index.json") if part.startswith(("text_encoder", "tokenizer"))]


def _load(folder: Path, dtype, device: str, options: dict[str, Any]):
    import logging

    import torch

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it names kernels that nothing here uses
    import diffusers
    from diffusers.utils import logging as diffusers_logging
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RequestError(f"device={device}: this machine has no usable CUDA device; use device=cpu")
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    kind = getattr(diffusers, read_json(folder / "model_index.json")["_class_name"])
    try:
        pipe = kind.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise RequestError(f"{folder} can't be loaded: {str(error).splitlines()[0]}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


def set_theta(transformer, theta: float) -> None:
    """Give a FLUX transformer the stock positions of another rotary base; the stock class fixes 10000."""
    from diffusers.models.transformers.transformer_flux import FluxPosEmbed

    if isinstance(getattr(transformer, "pos_embed", None), FluxPosEmbed) and transformer.pos_embed.theta != theta:
        transformer.pos_embed = FluxPosEmbed(theta=theta, axes_dim=transformer.pos_embed.axes_dim)
