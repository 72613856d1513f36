"""Plan the scoring of a run: what its scores depend on, which exist and which are missing.

No image is opened and no network is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sega.errors import RequestError
from sega.store.files import file_sha

from ..metrics.measures import base_period, crop_size, seam_period
from ..metrics.registry import measures, metrics
from ..metrics.statistics import INTERVALS
from ..metrics.types import Metric, version
from ..records.files import are_sound, digest
from ..records.runs import Run
from ..records.schema import ScoreBlock
from ..records.scores import SCHEMA, read_scores
from . import references
from .collect import Setting, resolve


@dataclass(frozen=True)
class Job:
    """A run, its protocol, and everything that was looked up for them."""

    run: Run
    config: dict[str, Any]
    setting: Setting
    misfits: dict[str, str]  # measure -> why it has no value at this size
    plan: references.ReferencePlan | None
    no_reference: str  # why there are no references, "" if there are
    shas: list[str]  # of the files on disk, "" for a missing one without scores
    stats: list[tuple[int, int] | None]
    old: ScoreBlock | None  # the stored scores
    identity: str
    done: bool  # the stored scores are up to date, or all images are missing
    kept: list[bool]  # of missing images: whether their scores stay, without another measure

    @property
    def protocol(self) -> str:
        """Name of the protocol."""
        return self.config["name"]

    @property
    def usable(self) -> list[str]:
        """Measures that are available and have a value at this size."""
        return [name for name in self.setting.identities if name not in self.misfits]


def prepare(run: Run, config: dict[str, Any], cache: Path) -> Job:
    """Find what the scores of a run depend on, and whether they exist."""
    wanted = [metrics()[name] for name in config["metrics"]]
    setting = resolve(list(dict.fromkeys(metric.measure for metric in wanted)), config, native_side(run.model))
    plan, reason = None, ""
    if any(metric.references for metric in wanted):
        try:
            plan = references.plan(run, setting, cache)
        except references.NoReferenceError as error:
            reason = str(error)
    old = read_scores(run.folder, config["name"])
    shas, stats = _shas(run, old.get("files", {}) if old else {})
    depends = {metric.name: _depends(metric, setting) for metric in wanted}
    images = [(*p.key, p.prompt, sha, p.sha) for p, sha in zip(run.images, shas, strict=True)]
    size = (run.width, run.height)
    versions = SCHEMA, INTERVALS
    identity = digest([depends, images, size, plan.identity if plan else reason, config["bootstrap"], *versions])
    same = old is not None and old.get("identity") == identity
    done = same and are_sound(run.folder / f"features-{config['name']}.npz")
    absent = [not image.path.exists() for image in run.images]
    over = bool(absent) and all(absent) and (run.folder / "scores.json").exists()
    kept = [gone and (over or bool(sha)) for gone, sha in zip(absent, shas, strict=True)]
    misfits = {name: why for name in setting.identities if (why := _misfit(name, run, setting))}
    return Job(run, config, setting, misfits, plan, reason, shas, stats, old, identity, done or over, kept)


def _depends(metric: Metric, setting: Setting) -> list[Any]:
    """Return everything that a metric depends on besides images and references."""
    group = metric.settings[0].partition(".")[0] if metric.settings else ""
    return [
        metric.kind,
        version(metric.version),
        setting.config[group] if group else (),
        setting.identities.get(metric.measure, setting.reasons.get(metric.measure)),
    ]


def native_side(model: str) -> int | None:
    """Return the training size of a model in pixels, None for an unknown model."""
    from sega.methods.geometry import load_geometry

    try:
        geometry = load_geometry(model)
    except RequestError:
        return None
    return geometry.train_tokens * geometry.token_pixels


def _shas(run: Run, known: dict[str, list[Any]]) -> tuple[list[str], list[tuple[int, int] | None]]:
    """Return the hashes of the files. A file whose size and time have not changed is not read again.

    A missing one that was scored with the hash of its row counts as there: its scores say what it was.
    """
    shas, stats = [], []
    for image in run.images:
        old = known.get(run.file_of(image))
        if not image.path.is_file() or (image.sha and image.path.is_symlink()):
            is_scored = image.sha and old and old[2] == image.sha and not image.path.exists()
            shas.append(image.sha if is_scored else "")
            stats.append((old[0], old[1]) if is_scored else None)
            continue
        info = image.path.stat()
        stat = (info.st_size, info.st_mtime_ns)
        shas.append(old[2] if old and tuple(old[:2]) == stat else file_sha(image.path))
        stats.append(stat)
    return shas, stats


def _misfit(name: str, run: Run, setting: Setting) -> str:
    """Return why a measure has no value at this size, "" if it has one."""
    needs, size, config, native = measures()[name].needs, run.size, setting.config, setting.native
    if not size:
        return ""
    if "crop" in needs:
        crop, square = crop_size(config, native), config["patch"]["resize"]
        if square and square <= crop:
            return f"patch.resize={square} is no larger than a crop of {crop} px"
        if not square and (min(size) < crop or max(size) == crop):
            return f"the image is no larger than a crop of {crop} px"
    if "period" in needs and max(size) < 2 * base_period(config, native):
        return "the image is smaller than two base periods"
    if "lattice" in needs and max(size) <= seam_period(config, native) + 2:
        return "the image has no line between windows"
    return ""
