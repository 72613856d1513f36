"""Reference sets: renders of the same captions at the same size, or a folder of images.

The arrays of a set (features, crops, spectra) are stored in `<cache>/references/`, named by a hash of their content.
Held-out renders, one per image of the run, are stored as a run in `<cache>/renders/`. They are scored like a method and
show which value each metric has for true images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from sega.errors import RequestError
from sega.store.files import atomic, file_sha, read_record
from sega.store.rows import ROW_KEYS, read_rows

from ..metrics.distances.moments import Moments, count
from ..records import images
from ..records.files import digest, file_digest, read_arrays, write_arrays, write_text
from ..records.runs import Run, load_run
from .collect import Item, Setting, collect

REFERENCE_SEED = 2_000_000_000
"""The seed of reference k of a caption is this number plus k."""
HELD_OUT_SEED = 1_000_000_000
"""The seed of a held-out render is this number plus the seed of its image."""
SETS = ("features", "patches", "spectrum", "clip_features", "spatial")
FITTED = ("features", "patches", "spatial")
"""Arrays whose moments are stored too, if there are more rows than dimensions."""


SCHEMA = 2
"""Version of the stored arrays. Raise it when their content changes."""


class NoReferenceError(Exception):
    """Raised if these images have no references. The message gives the reason."""


@dataclass(frozen=True)
class ReferencePlan:
    """Description of a reference set that is not yet measured."""

    identity: str
    kind: str
    count: int
    width: int
    height: int
    captions: tuple[str, ...] = ()
    per_prompt: int = 1
    files: tuple[Path, ...] = ()
    reduce: str = ""  # filter that resizes images of a folder to width and height; "": no resizing


@dataclass(frozen=True)
class References:
    """Arrays of a reference set."""

    arrays: dict[str, np.ndarray]  # features [R, D], patches [R, C, D], spectrum [R, bands]
    prompts: tuple[str, ...]  # [R], "" for a folder

    def moments(self, name: str) -> Moments:
        """Return the stored moments of an array, or those of its few rows."""
        if f"{name}_outer" not in self.arrays:
            return Moments.of(self.arrays[name])
        total, outer = self.arrays[f"{name}_sum"], self.arrays[f"{name}_outer"]
        return Moments(total, outer, self.arrays[name].size // len(total))

    def spectra(self) -> dict[str, np.ndarray]:
        """Return the mean spectrum of each prompt, and of all prompts under ""."""
        spectrum = self.arrays["spectrum"]
        prompts = np.array(self.prompts)
        found = {str(p): spectrum[prompts == p].mean(0) for p in np.unique(prompts)}
        return found | {"": spectrum.mean(0)}


def plan(run: Run, setting: Setting, cache: Path) -> ReferencePlan:
    """Plan the reference set of a run. `cache` stores hashes of files. Raises NoReferenceError if there is none."""
    options = setting.config["reference"]
    kind = options["kind"]
    if kind == "auto":
        is_world = run.is_embedded or run.method == "renders"
        kind = "world" if is_world and not options["path"] else "folder"
    if kind == "none":
        raise NoReferenceError("the protocol has no references (reference.kind=none)")
    if kind == "folder":
        return _plan_folder(options, setting, run, cache)
    if run.width is None or run.height is None:
        raise NoReferenceError("images of several sizes have no rendered references")
    return plan_world({p.prompt for p in run.images if p.prompt is not None}, (run.width, run.height), setting)


def plan_world(prompts: Collection[str], size: tuple[int, int], setting: Setting) -> ReferencePlan:
    """Plan renders of captions at a size (width, height). Raises NoReferenceError where they can't be rendered."""
    from sega.embedded import world

    captions, options = tuple(sorted(set(prompts))), setting.config["reference"]
    if not captions:
        raise NoReferenceError("the images have no prompts; give prompts=<file>")
    try:
        for caption in captions:
            world.parse_caption(caption)
    except RequestError as error:
        raise NoReferenceError(f"prompts are no captions of the embedded world: {error}") from error
    each = options["per_prompt"]
    if each == "auto":
        each = min(16, max(1, math.ceil(options["least"] / len(captions))))
    identity = digest(["world", SCHEMA, world_digest(), captions, each, *size, _settings(setting)])
    return ReferencePlan(identity, "world", each * len(captions), *size, captions, each)


def _plan_folder(options: dict[str, Any], setting: Setting, run: Run, cache: Path) -> ReferencePlan:
    from ..records.foreign import KINDS

    if not options["path"]:
        raise NoReferenceError("no references given; give reference.path=<folder of images>")
    folder = Path(options["path"])
    if not folder.is_dir():
        raise RequestError(f"reference.path={folder} is not a folder")
    files = tuple(sorted(p for p in folder.rglob("*") if p.suffix.lower() in KINDS))[: options["count"]]
    if not files:
        raise RequestError(f"no images in reference.path={folder}")
    reduce = options["filter"] if options["resize"] == "size" else ""
    if reduce and run.width is None:
        raise NoReferenceError("references can't be reduced to images of several sizes (reference.resize=size)")
    shas = known_digests(files, cache / "references" / "files.json")
    if setting.config["patch"]["places"] == "by_prompt":
        shas = sorted(shas)
    identity = digest(["folder", SCHEMA, shas, reduce, run.width, run.height, _settings(setting)])
    return ReferencePlan(identity, "folder", len(files), run.width or 0, run.height or 0, files=files, reduce=reduce)


def known_digests(files: tuple[Path, ...], record: Path) -> list[str]:
    """Return the sha256 of files. A file whose size and time are those in `record` is not read again."""
    known = read_record(record) or {}  # a damaged one is written again
    found = {}
    for path in files:
        info, name = path.stat(), str(path.resolve())
        stat = [info.st_size, info.st_mtime_ns]
        old = known.get(name)
        found[name] = old if isinstance(old, list) and old[:2] == stat else [*stat, file_digest(path)]
    if any(known.get(name) != entry for name, entry in found.items()):
        write_text(record, json.dumps(known | found, indent=0) + "\n")
    return [entry[2] for entry in found.values()]


def _settings(setting: Setting) -> dict[str, str]:
    return {name: setting.identities[name] for name in SETS if name in setting.identities}


def world_digest() -> str:
    """Return the hash of the source of the renderer."""
    from sega.embedded import world

    return file_digest(Path(world.__file__))


def make(plan: ReferencePlan, setting: Setting, cache: Path) -> References:
    """Return the arrays of a reference set, from the cache or measured now. An unreadable image raises RequestError."""
    path = cache / "references" / f"{plan.identity}.npz"
    arrays = read_arrays(path)
    if not arrays:
        items = _items(plan)
        names = [name for name in SETS if name in setting.identities]
        values, damaged = collect(items, [names] * len(items), setting.context(), "references")
        if damaged:
            index, reason = min(damaged.items())
            raise RequestError(f"reference {items[index].key[0]} {reason}")
        same_size = plan.kind == "world" or bool(plan.reduce) or _of_size(plan)
        arrays = {"prompts": np.array([item.prompt or "" for item in items])}
        for name in names:
            rows = [v[name] for v in values if v[name] is not None]
            if rows and (same_size or name != "spectrum") and len({row.shape for row in rows}) == 1:
                arrays[name] = np.stack(rows)
        for name in (name for name in FITTED if name in arrays and count(arrays[name]) > arrays[name].shape[-1]):
            found = Moments.of(arrays[name])
            arrays |= {f"{name}_sum": found.sum, f"{name}_outer": found.outer}
        write_arrays(path, arrays)
    return References({k: v for k, v in arrays.items() if k != "prompts"}, tuple(map(str, arrays["prompts"])))


def _of_size(plan: ReferencePlan) -> bool:
    """Return whether all images of a folder have the size of the run. Only then can spectra be compared."""
    return all(images.size(path) == (plan.width, plan.height) for path in plan.files)


def _items(plan: ReferencePlan) -> list[Item]:
    size = plan.width, plan.height
    if plan.reduce:
        return [
            Item(partial(images.reduced, path, size, plan.reduce), (str(path), 0), None, 2**22, number)
            for number, path in enumerate(plan.files)
        ]
    if plan.kind == "folder":
        return [
            Item(partial(images.read, path), (str(path), 0), number=number) for number, path in enumerate(plan.files)
        ]
    seeds = range(REFERENCE_SEED, REFERENCE_SEED + plan.per_prompt)
    slow = 4 * plan.width * plan.height  # a render takes longer than decoding
    return [
        Item(partial(render, text, seed, *size), (text, seed), text, slow, number)
        for number, (text, seed) in enumerate(product(plan.captions, seeds))
    ]


def render(caption: str, seed: int, width: int, height: int) -> np.ndarray:
    """Render a caption: uint8 [height, width, 3]."""
    from sega.embedded import world

    return world.render(world.scene_for(caption, seed), width, height)


def held_out(run: Run, cache: Path) -> Run:
    """Return a run with one held-out render for each image of a run. It is made once and stored in the cache."""
    from PIL import Image

    rows = [(p.prompt_id, p.seed, p.prompt) for p in run.images if p.prompt is not None]
    identity = digest(["renders", world_digest(), rows, run.width, run.height])
    folder = cache / "renders" / run.model / "renders" / f"{run.width}x{run.height}" / identity
    if read_record(folder / "run.json") is None or len(read_rows(folder / "images.jsonl", ROW_KEYS)[0]) < len(rows):
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for number, (prompt_id, seed, prompt) in enumerate(rows):
            path = folder / f"{number:05d}-{seed}.png"
            with atomic(path) as scratch:
                Image.fromarray(render(prompt, HELD_OUT_SEED + seed, run.width, run.height)).save(scratch, "PNG")
            sha = file_sha(path)
            lines.append({"prompt_id": prompt_id, "prompt": prompt, "seed": seed, "file": path.name, "sha256": sha})
        write_text(folder / "images.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        record = {"hash": identity, "identity": {"model": run.model, "method": {"name": "renders"}}, "config": {}}
        write_text(folder / "run.json", json.dumps(record, indent=1) + "\n")
    return load_run(folder)
