"""Score one run: measure its pictures, compare with references, write the records. Nothing is computed twice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sega.errors import RequestError
from sega.store.files import file_sha

from ..metrics.registry import MEASURES, METRICS, version
from ..records import images
from ..records import runs as records
from ..records.runs import Picture, Run, digest
from . import references
from .aggregate import Scored, cells
from .collect import Item, Setting, collect, resolve
from .departures import departures, unstated


@dataclass
class Job:
    """What scoring a run would take, worked out without opening pictures or loading networks."""

    run: Run
    config: dict[str, Any]
    setting: Setting
    plan: references.Plan | None
    no_reference: str
    shas: list[str]  # of the files as they are now, "" for a missing one
    stats: list[tuple[int, int] | None]
    identity: str
    done: bool  # the stored scores are these very ones, or can't be made again
    gone: bool  # there are scores, but none of the pictures


def prepare(run: Run, config: dict[str, Any], cache: Path) -> Job:
    """Work out what a run's scores depend on, and whether they are there."""
    names = list(dict.fromkeys(METRICS[name].measure for name in config["metrics"]))
    setting = resolve(names, config, native_side(run.model))
    plan, reason = None, ""
    if any(METRICS[name].references for name in config["metrics"]):
        try:
            plan = references.plan(run, setting, cache)
        except references.NoReferenceError as error:
            reason = str(error)
    old = records.read_scores(run.folder, config["name"])
    shas, stats = _shas(run, old.get("files", {}))
    wanted = {
        name: [
            METRICS[name].kind,
            version(METRICS[name].version),
            METRICS[name].settings and config["kid"],
            setting.identities.get(METRICS[name].measure, setting.reasons.get(METRICS[name].measure)),
        ]
        for name in config["metrics"]
    }
    pictures = [(*p.key, p.prompt, sha, p.sha) for p, sha in zip(run.pictures, shas, strict=True)]
    size = (run.width, run.height)
    identity = digest([wanted, pictures, size, plan.identity if plan else reason, config["bootstrap"], records.SCHEMA])
    done = old.get("identity") == identity and records.are_sound(run.folder / f"features-{config['name']}.npz")
    gone = bool(run.pictures) and not any(shas) and (run.folder / "scores.json").exists()
    return Job(run, config, setting, plan, reason, shas, stats, identity, done or gone, gone)


def native_side(model: str) -> int | None:
    """The training size of a model in pixels, None for one without a geometry."""
    from sega.methods.geometry import load_geometry

    try:
        geometry = load_geometry(model)
    except RequestError:
        return None
    return geometry.train_tokens * geometry.token_pixels


def _shas(run: Run, known: dict[str, list]) -> tuple[list[str], list[tuple[int, int] | None]]:
    """Hashes of the files; one that is unchanged in size and time since it was scored is not read again."""
    shas, stats = [], []
    for picture in run.pictures:
        name = str(picture.path.relative_to(run.folder))
        if not picture.path.is_file() or (picture.sha and picture.path.is_symlink()):
            shas.append("")
            stats.append(None)
            continue
        info = picture.path.stat()
        stat = (info.st_size, info.st_mtime_ns)
        old = known.get(name)
        shas.append(old[2] if old and tuple(old[:2]) == stat else file_sha(picture.path))
        stats.append(stat)
    return shas, stats


def execute(job: Job, cache: Path, progress: bool = True) -> dict[str, Any]:
    """Compute what is missing and write the records; returns the block of `scores.json`."""
    run, config, protocol = job.run, job.config, job.config["name"]
    old_rows = {row["sha256"]: row for row in records.score_rows(run.folder, protocol)}
    old = records.read_scores(run.folder, protocol)
    old_arrays = records.read_arrays(run.folder / f"features-{protocol}.npz") if old else {}
    place = {str(sha): i for i, sha in enumerate(old_arrays.get("sha256", []))}
    identities = job.setting.identities
    usable = [name for name in identities if _fits(name, job)]
    values: list[dict[str, Any]] = []
    wanted: list[list[str]] = []
    for picture, sha in zip(run.pictures, job.shas, strict=True):
        kept: dict[str, Any] = {}
        row = old_rows.get(sha, {})
        same = row.get("prompt_id") == picture.prompt_id and row.get("seed") == picture.seed
        for name in usable:
            if not same or row.get("prompt") != picture.prompt or old.get("measures", {}).get(name) != identities[name]:
                continue
            if MEASURES[name].array:
                if sha in place and name in old_arrays:
                    array = old_arrays[name][place[sha]]
                    kept[name] = None if np.isnan(array).all() else array
            elif name in row.get("values", {}):
                kept[name] = row["values"][name]
        values.append(kept)
        wanted.append([name for name in usable if name not in kept])
    pixels = run.width * run.height if _size(run) else 2**20
    items = [Item(partial(images.read, p.path, p.sha, _size(run)), p.key, p.prompt, pixels) for p in run.pictures]
    found, damaged = collect(items, wanted, job.setting.context(), run.name if progress else "")
    for kept, new in zip(values, found, strict=True):
        kept.update(new)
    good = [i for i in range(len(items)) if i not in damaged]
    reference = references.make(job.plan, job.setting, cache) if job.plan else None
    scored = Scored(
        [run.pictures[i] for i in good],
        [values[i] for i in good],
        reference,
        _size(run) and (min(_size(run)), config["spectrum"]["bands"]),
    )
    if reference and "spectrum" in usable:
        scored.add_spectrum_distance()
    reasons = dict(job.setting.reasons)
    reasons |= {name: _misfit(name, job) for name in identities if name not in usable}
    block = {
        "identity": job.identity,
        "model": run.model,
        "method": run.method,
        "run": run.hash,
        "size": [run.width, run.height],
        "n": len(good),
        "prompts": len({run.pictures[i].prompt_id for i in good}),
        "native": job.setting.native,
        "measures": {name: identities[name] for name in usable},
        "networks": {kind: source.weights for kind, source in job.setting.sources.items()},
        "weights": job.setting.files,
        "reference": job.plan and {"identity": job.plan.identity, "kind": job.plan.kind, "n": job.plan.count},
        "protocol": {
            "departures": departures(run, config, len({run.pictures[i].prompt_id for i in good})),
            "unstated": unstated(config),
        },
        "damaged": [{"file": items_name(run, run.pictures[i]), "why": why} for i, why in sorted(damaged.items())],
        "cost": cost([run.pictures[i] for i in good]),
        "settings": config,
        "metrics": cells(scored, config, reasons, job.no_reference, job.setting.native),
        "files": {
            items_name(run, p): [*stat, sha]
            for p, stat, sha in zip(run.pictures, job.stats, job.shas, strict=True)
            if stat
        },
    }
    rows = [_row(run, scored, k, job.shas[i]) for k, i in enumerate(good)]
    records.write_scores(run.folder, protocol, block, rows, _arrays(scored, usable, [job.shas[i] for i in good]))
    return block


def _size(run: Run) -> tuple[int, int] | None:
    return (run.width, run.height) if run.width and run.height else None


def _fits(name: str, job: Job) -> bool:
    return not _misfit(name, job)


def _misfit(name: str, job: Job) -> str:
    """Why a measure says nothing at this size, "" where it does."""
    needs, size = MEASURES[name].needs, _size(job.run)
    if size and "crop" in needs:
        from ..metrics.measures import crop_size

        crop = crop_size(job.config, job.setting.native)
        if min(size) < crop or max(size) == crop:
            return f"the picture is no larger than a crop of {crop} px"
    if size and "period" in needs:
        from ..metrics.measures import base_period

        if max(size) < 2 * base_period(job.config, job.setting.native):
            return "the picture is smaller than two base periods"
    if size and "lattice" in needs:
        from ..metrics.measures import seam_period

        if max(size) <= seam_period(job.config, job.setting.native) + 2:
            return "the picture has no line between windows"
    return ""


def items_name(run: Run, picture: Picture) -> str:
    """A picture's file, relative to its run."""
    return str(picture.path.relative_to(run.folder))


def cost(pictures: list[Picture]) -> dict[str, float | None]:
    """Mean seconds and transformer calls of a picture, and the peak memory in MB; None where it was not recorded."""
    found = {
        key: [p.cost[key] for p in pictures if p.cost.get(key) is not None]
        for key in ("seconds", "calls", "peak_memory_mb")
    }
    return {
        "seconds": float(np.median(found["seconds"])) if found["seconds"] else None,
        "calls": float(np.mean(found["calls"])) if found["calls"] else None,
        "peak_memory_mb": float(max(found["peak_memory_mb"])) if found["peak_memory_mb"] else None,
    }


def _row(run: Run, scored: Scored, k: int, sha: str) -> dict[str, Any]:
    picture = scored.pictures[k]
    numbers = {name: value for name, value in scored.values[k].items() if not isinstance(value, np.ndarray)}
    return {
        "prompt_id": picture.prompt_id,
        "seed": picture.seed,
        "prompt": picture.prompt,
        "file": items_name(run, picture),
        "sha256": sha,
        "values": numbers,
    }


def _arrays(scored: Scored, usable: list[str], shas: list[str]) -> dict[str, np.ndarray]:
    arrays = {
        "sha256": np.array(shas, str),
        "prompt_id": np.array([p.prompt_id for p in scored.pictures], str),
        "seed": np.array([p.seed for p in scored.pictures], np.int64),
    }
    for name in (name for name in usable if MEASURES[name].array):
        rows = [values.get(name) for values in scored.values]
        shapes = {row.shape for row in rows if row is not None}
        if len(shapes) == 1:
            empty = np.full(shapes.pop(), np.nan, np.float32)
            arrays[name] = np.stack([empty if row is None else row for row in rows]).astype(np.float32)
    return arrays
