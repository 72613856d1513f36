"""Find weights, name them by content, load the stock pipeline. Only `load_pipeline` imports torch."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sega.errors import RequestError
from sega.models import ADAPTERS

ROOT = Path(__file__).resolve().parent.parent.parent
HASHES = ROOT / "results" / "cache" / "weights.json"
"""Content hashes of weight folders, kept by the names, sizes and times of their files."""


@dataclass(frozen=True)
class Weights:
    """A diffusers pipeline folder on this machine."""

    folder: Path
    commit: str | None = None  # of the hub repository, where it comes from the hub's cache


def hub_cache() -> Path:
    """The folder of the local hub cache, by the hub's own environment variables."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"]).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return Path(home).expanduser() / "hub"


def find_weights(model: dict[str, Any]) -> Weights:
    """The weights a model config asks for: its `path`, else its `id` from the hub's cache. Never downloads."""
    if model["path"]:
        path = Path(str(model["path"])).expanduser()
        folder = path if path.is_absolute() or path.exists() else ROOT / path
        if not folder.is_dir():
            raise RequestError(f"model.path={path} is not a folder; {_ways_out(model['name'])}")
        weights = Weights(folder.resolve())
    else:
        weights = _from_cache(str(model["id"]), model["revision"], model["name"])
    check_pipeline(weights.folder, model["name"])
    return weights


def _from_cache(repository: str, revision: str | None, name: str) -> Weights:
    cache = hub_cache()
    folder = cache / ("models--" + repository.replace("/", "--"))
    main = folder / "refs" / (revision or "main")
    commit = main.read_text().strip() if main.is_file() else revision
    snapshot = folder / "snapshots" / str(commit)
    if not commit or not (snapshot / "model_index.json").exists():
        which = f"{repository} at revision {revision}" if revision and folder.exists() else repository
        raise RequestError(f"the weights of {which} are not on this machine (looked in {cache}); {_ways_out(name)}")
    return Weights(snapshot, str(commit))


def _ways_out(name: str) -> str:
    if name == "tiny":
        return "make them with `make train-embedded`, or give model.path=<folder>"
    return "give model.path=<folder of the checkpoint>, or use model=tiny, which ships with the project"


def check_pipeline(folder: Path, name: str) -> None:
    """Refuse a folder that is no complete diffusers pipeline with a transformer we know."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise RequestError(f"{folder} has no model_index.json, so it is no diffusers pipeline; {_ways_out(name)}")
    parts = _json(index)
    transformer = (parts.get("transformer") or [None, None])[1]
    if transformer not in ADAPTERS:
        raise RequestError(f"{folder} holds a {transformer}; there are adapters for {', '.join(ADAPTERS)}")
    for part, entry in parts.items():
        if not part.startswith("_") and isinstance(entry, list) and entry[0] and not (folder / part).is_dir():
            raise RequestError(f"{folder} is incomplete: the folder {part} is missing; fetch it again")
    for shards in folder.glob("*/*.safetensors.index.json"):
        missing = sorted(set(_json(shards)["weight_map"].values()) - {path.name for path in shards.parent.iterdir()})
        if missing:
            raise RequestError(f"{folder} is incomplete: {shards.parent.name}/{missing[0]} is missing; fetch it again")


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise RequestError(f"{path} is damaged ({error}); fetch it again") from error


def fingerprint(weights: Weights) -> str:
    """What the pixels depend on: the commit in the hub, or a hash over every weight and config file of a folder."""
    if weights.commit:
        return weights.commit
    kinds = (".safetensors", ".json", ".txt", ".model")
    files = sorted(path for path in weights.folder.rglob("*") if path.suffix in kinds and path.is_file())
    names = [str(path.relative_to(weights.folder)) for path in files]
    seen = [[name, path.stat().st_size, path.stat().st_mtime_ns] for name, path in zip(names, files, strict=True)]
    key = hashlib.sha256(json.dumps([str(weights.folder), seen]).encode()).hexdigest()[:16]
    known = _known_hashes()
    if key not in known:
        total = hashlib.sha256()
        for name, path in zip(names, files, strict=True):
            with path.open("rb") as file:
                total.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        known[key] = total.hexdigest()[:16]
        HASHES.parent.mkdir(parents=True, exist_ok=True)
        scratch = HASHES.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(json.dumps(known, indent=1))
        scratch.replace(HASHES)
    return known[key]


def _known_hashes() -> dict[str, str]:
    try:
        return json.loads(HASHES.read_text())
    except (FileNotFoundError, ValueError):  # only a cache: a damaged one is made anew
        return {}


def load_pipeline(model: dict[str, Any], weights: Weights, device: str):
    """The stock pipeline on a device, with the rotary base of the model's geometry."""
    import logging

    import torch

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it names kernels that nothing here uses
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging as diffusers_logging
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    from sega.geometry import build_geometry

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RequestError(f"device={device}: this machine has no usable CUDA device; use device=cpu")
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        pipe = DiffusionPipeline.from_pretrained(
            weights.folder, dtype=getattr(torch, model["dtype"]), use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise RequestError(f"{weights.folder} can't be loaded: {str(error).splitlines()[0]}") from error
    set_theta(pipe.transformer, build_geometry(model["geometry"]).theta)
    if model["vae_tiling"]:
        pipe.vae.enable_tiling()
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def set_theta(transformer, theta: float) -> None:
    """Give a FLUX transformer the stock positions of another rotary base; the stock class fixes 10000."""
    from diffusers.models.transformers.transformer_flux import FluxPosEmbed

    if isinstance(transformer.pos_embed, FluxPosEmbed) and transformer.pos_embed.theta != theta:
        transformer.pos_embed = FluxPosEmbed(theta=theta, axes_dim=transformer.pos_embed.axes_dim)
