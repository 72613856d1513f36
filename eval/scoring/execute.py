"""Score one run: measure its images, compare with references, write the records. Known values are kept."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics.registry import measures
from ..records import images
from ..records.files import read_arrays
from ..records.schema import ScoreBlock, ScoreRow
from ..records.scores import score_rows, write_scores
from . import references
from .aggregate import Scored
from .block import build_arrays, build_block, build_rows
from .collect import Item, collect
from .job import Job


def execute(job: Job, cache: Path, progress: bool = True, write: bool = True) -> ScoreBlock:
    """Compute missing values, write the records unless told not to, and return the block of `scores.json`."""
    run, usable, size = job.run, job.usable, job.run.size
    values = _kept(job)
    wanted = [
        [] if gone else [name for name in usable if name not in kept]
        for kept, gone in zip(values, job.kept, strict=True)
    ]
    pixels = size[0] * size[1] if size else 2**20
    numbers = np.cumsum([bool(sha) for sha in job.shas]) - 1  # among the files that are there
    items = [
        Item(partial(images.read, p.path, p.sha, size), p.key, p.prompt, pixels, int(number))
        for p, number in zip(run.images, numbers, strict=True)
    ]
    found, damaged = collect(items, wanted, job.setting.context(), run.name if progress else "")
    for kept, new in zip(values, found, strict=True):
        kept.update(new)
    good = [i for i in range(len(items)) if i not in damaged]
    reference = references.make(job.plan, job.setting, cache) if job.plan else None
    rings = (min(size), job.config["spectrum"]["bands"]) if size else None
    scored = Scored([run.images[i] for i in good], [values[i] for i in good], reference, rings)
    if reference and "spectrum" in usable:
        scored.add_spectrum_distance()
    shas = [job.shas[i] for i in good]
    block = build_block(job, scored, damaged)
    if write:
        rows, arrays = build_rows(job, scored, shas), build_arrays(job, scored, shas)
        write_scores(run.folder, job.protocol, block, rows, arrays)
    return block


def _kept(job: Job) -> list[dict[str, Any]]:
    """Return the values that are still valid: same file, prompt and seed, same measure."""
    if job.old is None:
        return [{} for _ in job.run.images]
    folder, identities = job.run.folder, job.setting.identities
    same = [name for name in job.usable if job.old.get("measures", {}).get(name) == identities[name]]
    rows = {row["sha256"]: row for row in score_rows(folder, job.protocol)}
    if job.config["patch"]["places"] == "by_order" and not _is_same_set(job, list(rows.values())):
        same = [name for name in same if name not in ("patches", "patch_logits")]
    arrays = read_arrays(folder / f"features-{job.protocol}.npz")
    place = {str(sha): i for i, sha in enumerate(arrays.get("sha256", []))}
    found: list[dict[str, Any]] = []
    for image, sha in zip(job.run.images, job.shas, strict=True):
        kept: dict[str, Any] = {}
        found.append(kept)
        row = rows.get(sha)
        if not row or (row["prompt_id"], row["seed"], row.get("prompt")) != (*image.key, image.prompt):
            continue
        for name in same:
            if measures()[name].array:
                if sha in place and name in arrays:
                    array = arrays[name][place[sha]]
                    kept[name] = None if np.isnan(array).all() else array
            elif name in row["values"]:
                kept[name] = row["values"][name]
    return found


def _is_same_set(job: Job, rows: list[ScoreRow]) -> bool:
    """Return whether the images are those of the stored scores, under the same names, so that their order is too."""
    here = {job.run.file_of(image): image.key for image, sha in zip(job.run.images, job.shas, strict=True) if sha}
    return set(here) == set(job.old["files"]) and all(
        here.get(row["file"]) == (row["prompt_id"], row["seed"]) for row in rows
    )
