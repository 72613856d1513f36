"""Weights on disk: which folder a model config means, and the hash by which an identity knows them. No torch here."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sega.errors import RequestError
from sega.home import CACHE, CLONE
from sega.loading.folder import check_index, check_pipeline
from sega.loading.hub import cached, fetch, hub_cache
from sega.store.files import atomic, file_sha

if TYPE_CHECKING:
    from sega.loading.schema import ModelConfig

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
HERE = CLONE or Path(__file__).resolve().parents[2]
"""What a relative `path` of a config is relative to, where the working folder has nothing of that name."""
HASHES = CACHE / "weights.json"
"""Content hashes of weight folders, kept by the names, sizes and times of their files."""


@dataclass(frozen=True)
class Weights:
    """A diffusers pipeline folder on this machine."""

    folder: Path
    commit: str | None = None  # of the hub repository, where it comes from the hub's cache


class Absent(RequestError):
    """The weights are not on this machine."""


def find_weights(model: ModelConfig) -> Weights:
    """The weights a model config asks for: the folder `path`, or the repository that `path` or `id` names.

    A repository is taken from the hub's cache; it is fetched only where `download` asks for it.
    """
    name, family = model["name"], model["geometry"]["family"]
    path = Path(str(model["path"] or "")).expanduser()
    folder = path if path.is_absolute() or path.exists() else HERE / path
    if not model["path"] or (not folder.is_dir() and REPOSITORY.fullmatch(str(model["path"]))):
        return _from_hub(model)
    if not folder.is_dir():
        raise Absent(f"model.path={path} is not a folder{_ways_out(name)}")
    check_pipeline(folder.resolve(), name, family, _ways_out(name))
    return Weights(folder.resolve())


def source(model: ModelConfig) -> str:
    """The name by which weights are known in an identity: a repository where `path` names one, else the `id`."""
    path = str(model["path"] or "")
    there = any(place.is_dir() for place in (Path(path).expanduser(), HERE / path))
    return path if REPOSITORY.fullmatch(path) and not there else model["id"]


def _from_hub(model: ModelConfig) -> Weights:
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
    if name == "tiny2":
        return "; `python -m sega.embedded.training --help` says how they are made; or give model.path=<folder>"
    return f"; give model.path=<folder of the checkpoint>{fetch}, or use model=tiny, which ships with the project"


def fingerprint(weights: Weights) -> str:
    """What the pixels depend on: the commit in the hub, or a hash over every weight and config file of a folder."""
    known = known_fingerprint(weights)
    if known:
        return known
    total = hashlib.sha256()
    for path in _files(weights.folder):
        total.update(f"{path.relative_to(weights.folder)} {file_sha(path)}\n".encode())
    hashes = _known_hashes() | {_key(weights.folder): total.hexdigest()[:16]}
    HASHES.parent.mkdir(parents=True, exist_ok=True)
    with atomic(HASHES) as scratch:
        scratch.write_text(json.dumps(hashes, indent=1))
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
