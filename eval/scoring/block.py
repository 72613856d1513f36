"""The records of one scored run, as `eval/records/schema.py` declares them."""

from __future__ import annotations

import numpy as np

from ..metrics.registry import measures
from ..records.runs import RunImage
from ..records.schema import Cost, ScoreBlock, ScoreRow
from .aggregate import Scored, cells
from .departures import departures, unstated
from .job import Job


def build_block(job: Job, scored: Scored, damaged: dict[int, str]) -> ScoreBlock:
    """The block of `scores.json`; `damaged` says why pictures were left out, by their place in the run."""
    run, config, setting = job.run, job.config, job.setting
    prompts = len({picture.prompt_id for picture in scored.pictures})
    return {
        "identity": job.identity,
        "model": run.model,
        "method": run.method,
        "run": run.hash,
        "size": [run.width, run.height],
        "n": len(scored.pictures),
        "prompts": prompts,
        "native": setting.native,
        "measures": {name: setting.identities[name] for name in job.usable},
        "networks": {kind: source.weights for kind, source in setting.sources.items()},
        "weights": setting.files,
        "reference": {"identity": job.plan.identity, "kind": job.plan.kind, "n": job.plan.count} if job.plan else None,
        "protocol": {"departures": departures(run, config, prompts), "unstated": unstated(config)},
        "damaged": [{"file": run.file_of(run.pictures[i]), "why": why} for i, why in sorted(damaged.items())],
        "cost": cost(scored.pictures),
        "settings": config,
        "metrics": cells(scored, config, setting.reasons | job.misfits, job.no_reference, setting.native),
        "files": {
            run.file_of(picture): [*stat, sha]
            for picture, stat, sha in zip(run.pictures, job.stats, job.shas, strict=True)
            if stat
        },
    }


def cost(pictures: list[RunImage]) -> Cost:
    """What a picture cost; None where it was not recorded."""
    found = {
        key: [p.cost[key] for p in pictures if p.cost.get(key) is not None]
        for key in ("seconds", "calls", "peak_memory_mb")
    }
    return {
        "seconds": float(np.median(found["seconds"])) if found["seconds"] else None,
        "calls": float(np.mean(found["calls"])) if found["calls"] else None,
        "peak_memory_mb": float(max(found["peak_memory_mb"])) if found["peak_memory_mb"] else None,
    }


def build_rows(job: Job, scored: Scored, shas: list[str]) -> list[ScoreRow]:
    """The rows of `scores.jsonl`: numbers of each picture; `shas` are those of the scored files."""
    rows: list[ScoreRow] = []
    for picture, values, sha in zip(scored.pictures, scored.values, shas, strict=True):
        rows.append(
            {
                "protocol": job.protocol,
                "prompt_id": picture.prompt_id,
                "seed": picture.seed,
                "prompt": picture.prompt,
                "file": job.run.file_of(picture),
                "sha256": sha,
                "values": {name: value for name, value in values.items() if not isinstance(value, np.ndarray)},
            }
        )
    return rows


def build_arrays(job: Job, scored: Scored, shas: list[str]) -> dict[str, np.ndarray]:
    """The arrays of the features file, NaN for a picture that has none; left out where shapes differ."""
    arrays = {
        "sha256": np.array(shas, str),
        "prompt_id": np.array([p.prompt_id for p in scored.pictures], str),
        "seed": np.array([p.seed for p in scored.pictures], np.int64),
    }
    for name in (name for name in job.usable if measures()[name].array):
        rows = [values.get(name) for values in scored.values]
        shapes = {row.shape for row in rows if row is not None}
        if len(shapes) == 1:
            empty = np.full(shapes.pop(), np.nan, np.float32)
            arrays[name] = np.stack([empty if row is None else row for row in rows]).astype(np.float32)
    return arrays
