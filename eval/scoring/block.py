"""Build the records of one scored run, as declared in `eval/records/schema.py`."""

from __future__ import annotations

import numpy as np

from ..metrics.learned import lengths
from ..metrics.registry import measures
from ..records.runs import RunImage
from ..records.schema import Cost, CutPrompts, ScoreBlock, ScoreRow
from .aggregate import Scored, metric_scores
from .departures import departures, unstated
from .job import Job


def build_block(job: Job, scored: Scored, damaged: dict[int, str]) -> ScoreBlock:
    """Return the block of `scores.json`. `damaged` maps the index of an image to the reason why it is left out."""
    run, config, setting = job.run, job.config, job.setting
    prompts = len({image.prompt_id for image in scored.images})
    return {
        "identity": job.identity,
        "model": run.model,
        "method": run.method,
        "run": run.hash,
        "size": [run.width, run.height],
        "n": len(scored.images),
        "prompts": prompts,
        "native": setting.native,
        "measures": {name: setting.identities[name] for name in job.usable},
        "networks": {kind: source.weights for kind, source in setting.sources.items()},
        "weights": setting.files,
        "reference": {"identity": job.plan.identity, "kind": job.plan.kind, "n": job.plan.count} if job.plan else None,
        "protocol": {"departures": departures(run, config, prompts), "unstated": unstated(config)},
        "damaged": [{"file": run.file_of(run.images[i]), "why": why} for i, why in sorted(damaged.items())],
        "cost": cost(scored.images),
        "cut": cut_prompts(job, scored.images),
        "settings": config,
        "metrics": metric_scores(scored, config, setting.reasons | job.misfits, job.no_reference, setting.native),
        "files": {
            run.file_of(image): [*stat, sha]
            for image, stat, sha in zip(run.images, job.stats, job.shas, strict=True)
            if stat
        },
    }


def cost(images: list[RunImage]) -> Cost:
    """Return the cost of an image. A value that was not recorded is None."""
    found = {
        key: [p.cost[key] for p in images if p.cost.get(key) is not None]
        for key in ("seconds", "calls", "peak_memory_mb")
    }
    full = [p.cost["full_calls"] for p in images if p.cost.get("full_calls") is not None]
    counted: Cost = {
        "seconds": float(np.median(found["seconds"])) if found["seconds"] else None,
        "calls": float(np.mean(found["calls"])) if found["calls"] else None,
        "peak_memory_mb": float(max(found["peak_memory_mb"])) if found["peak_memory_mb"] else None,
    }
    if full:
        counted["full_calls"] = float(np.mean(full))
    return counted


def cut_prompts(job: Job, images: list[RunImage]) -> dict[str, CutPrompts]:
    """Return how many of the different prompts of images each measure with a limit cuts."""
    prompts = {image.prompt for image in images if image.prompt is not None}
    found: dict[str, CutPrompts] = {}
    for name in job.usable:
        if prompts and measures()[name].tokens:
            tokens, cut = lengths.cut(measures()[name], job.config, prompts)
            found[name] = {"tokens": tokens, "cut": cut, "prompts": len(prompts)}
    return found


def build_rows(job: Job, scored: Scored, shas: list[str]) -> list[ScoreRow]:
    """Return the rows of `scores.jsonl`. `shas` are the hashes of the scored files."""
    rows: list[ScoreRow] = []
    for image, values, sha in zip(scored.images, scored.values, shas, strict=True):
        rows.append(
            {
                "protocol": job.protocol,
                "prompt_id": image.prompt_id,
                "seed": image.seed,
                "prompt": image.prompt,
                "file": job.run.file_of(image),
                "sha256": sha,
                "values": {name: value for name, value in values.items() if not isinstance(value, np.ndarray)},
            }
        )
    return rows


def build_arrays(job: Job, scored: Scored, shas: list[str]) -> dict[str, np.ndarray]:
    """Return the arrays of the features file. An image without a value has NaN. Unequal shapes are left out."""
    arrays = {
        "sha256": np.array(shas, str),
        "prompt_id": np.array([p.prompt_id for p in scored.images], str),
        "seed": np.array([p.seed for p in scored.images], np.int64),
    }
    for name in (name for name in job.usable if measures()[name].array):
        rows = [values.get(name) for values in scored.values]
        shapes = {row.shape for row in rows if row is not None}
        if len(shapes) == 1:
            empty = np.full(shapes.pop(), np.nan, np.float32)
            arrays[name] = np.stack([empty if row is None else row for row in rows]).astype(np.float32)
    return arrays
