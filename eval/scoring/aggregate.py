"""Compute the cells of a table from the measures of images: a value with its interval, or the reason for no value."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ..metrics.distances import fid, mmd, sets
from ..metrics.distances.inception_score import LEAST
from ..metrics.distances.moments import count, flat
from ..metrics.measures import crop_size
from ..metrics.pixels import artefacts
from ..metrics.registry import measures, metrics
from ..metrics.statistics import Estimate, harmonic_interval, mean_interval
from ..metrics.types import OTHERS, Metric, short_title, title, version
from ..records.runs import RunImage
from ..records.schema import Interval, MetricScore
from .references import References


@dataclass
class Scored:
    """Undamaged images in order of (prompt id, seed), their values, and the references."""

    images: list[RunImage]
    values: list[dict[str, Any]]
    reference: References | None
    rings: tuple[int, int] | None = None  # shorter side and bands of the spectra, where all are of one size

    def rows(self, name: str) -> list[tuple[str, Any]]:
        """Return (prompt id, value) of each image that has the value."""
        pairs = zip(self.images, self.values, strict=True)
        return [(image.prompt_id, values[name]) for image, values in pairs if values.get(name) is not None]

    def add_spectrum_distance(self) -> None:
        """Compare the spectrum of each image with the mean of the references of its prompt, in dB.

        `spectrum_distance` is the root mean square over rings, `high_frequency` the mean over the upper octave.
        """
        if "spectrum" not in self.reference.arrays:
            return
        spectra = self.reference.spectra()
        upper = artefacts.upper_octave(*self.rings) if self.rings else None
        for image, values in zip(self.images, self.values, strict=True):
            mean = spectra.get(image.prompt or "", spectra[""])
            spectrum = values.get("spectrum")
            if spectrum is not None and spectrum.shape == mean.shape:
                spectrum = spectrum.astype(np.float32).astype(np.float64)  # as it is stored
                values["spectrum_distance"] = float(np.sqrt(((spectrum - mean) ** 2).mean()))
                if upper is not None and len(upper) == len(mean):
                    values["high_frequency"] = float((spectrum - mean)[upper].mean())


def metric_scores(
    scored: Scored, config: dict[str, Any], reasons: dict[str, str], no_reference: str, native: int | None
) -> dict[str, MetricScore]:
    """Return a cell for each metric of the protocol: value, low, high, n and settings, or `reason`."""
    found: dict[str, MetricScore] = {}
    for name in config["metrics"]:
        metric = metrics()[name]
        head = {
            "title": title(metric, config, crop_size(config, native)),
            "version": version(metric.version),
            "higher_is_better": metric.higher_is_better,
            "unit": metric.unit,
            "digits": metric.digits,
        }
        reason = reasons.get(metric.measure) or (no_reference if metric.references else "")
        reason = reason or ("" if scored.images else "no image could be read")
        if reason:
            body: dict[str, Any] = {"reason": reason}
        elif metric.is_distance:
            body = _distance(metric, scored, config)
        elif metric.is_of_set:
            body = _set(metric, scored, config)
        else:
            body = _mean(metric, scored, config)
        text = json.dumps(head | body, sort_keys=True)
        identity = hashlib.sha256(text.encode()).hexdigest()[:16]
        found[name] = cast(MetricScore, head | body | {"identity": identity})
    return found


def _mean(metric: Metric, scored: Scored, config: dict[str, Any]) -> dict[str, Any]:
    key = metric.value
    rows = scored.rows(key)
    if not rows:
        why = {
            "world": "no prompt is a caption of the embedded world",
            "prompt": "the images have no prompts; give prompts=<file>",
            "blocks": "the images have fewer than two blocks of 96 px",
            "spectrum": "references and images differ in size",
            "tile": "the images are smaller than a tile",
        }
        needs = (*reversed(measures()[metric.measure].needs), metric.measure)
        return {"reason": next((why[need] for need in needs if need in why), "no image has this value")}
    parts = {part: _interval([(g, v[part]) for g, v in rows], config) for part in metric.parts}
    if metric.parts:
        rows = [(g, v["mean"]) for g, v in rows]
    interval = harmonic_interval if metric.kind == "harmonic" else mean_interval
    return {**_interval(rows, config, interval), **({"parts": parts} if parts else {})}


def _interval(rows: list[tuple[str, float]], config: dict[str, Any], interval=mean_interval) -> Interval:
    options = config["bootstrap"]
    groups, values = zip(*rows, strict=True)
    return _plain(interval(values, groups, options["samples"], options["level"], options["seed"]))


def _distance(metric: Metric, scored: Scored, config: dict[str, Any]) -> dict[str, Any]:
    rows, short = scored.rows(metric.measure), short_title(metric, config)
    reference = scored.reference.arrays.get(metric.measure)
    if len(rows) < 2:
        return {"reason": f"{len(rows)} image{'' if len(rows) == 1 else 's'} can't give a {short}"}
    if reference is None or len(reference) < 2:
        return {"reason": f"too few references for a {short}"}
    groups = [group for group, _ in rows]
    x, y = np.stack([value for _, value in rows]), reference
    options, dimension = config["bootstrap"], x.shape[-1]
    # crops of one image count as rows of the distance, but never as independent images in its interval
    counts = {"n": len(x), "n_reference": len(y), "dimension": dimension}
    if x.ndim == 3:
        counts["crops"] = int(x.shape[1])
    if metric.kind == "cmmd":
        value = mmd.mmd(x, y, mmd.gaussian)
        estimate = mmd.interval(value, x, groups, y, options["level"], mmd.gaussian)
        return {**_plain(estimate), **counts}
    if metric.kind == "fid":
        fitted = y if count(y) <= dimension else scored.reference.moments(metric.measure)
        value = fid.Frechet(fitted)(flat(x)) if config["features"] in OTHERS else fid.fid(x, fitted)
        resampling = options["distance_samples"], options["level"], options["seed"]
        estimate = fid.interval(value, x, groups, fitted, *resampling)
        few = min(count(x), count(y)) < dimension
        warning = f"N={len(x)} is below the {dimension} dimensions of the features: biased upwards"
        return {**_plain(estimate), **counts, **({"warning": warning} if few else {})}
    size = mmd.subset_size(config["kid"]["subset_size"], x.size // dimension, y.size // dimension)
    if size < 2:
        return {"reason": f"subsets of {size} can't give a {short}"}
    value, deviation = mmd.kid(x, y, config["kid"]["subsets"], size, config["kid"]["seed"])
    estimate = mmd.interval(value, x, groups, y, options["level"])
    return {
        **_plain(estimate),
        **counts,
        "std": deviation,
        "subsets": config["kid"]["subsets"],
        "subset_size": size,
    }


def _set(metric: Metric, scored: Scored, config: dict[str, Any]) -> dict[str, Any]:
    rows, short = scored.rows(metric.measure), short_title(metric, config)
    groups, x = [group for group, _ in rows], np.stack([value for _, value in rows]) if rows else np.empty((0, 0))
    least, is_score = sets.least(metric.kind, config), metric.kind == "is"
    if len(rows) < 2 or count(x) < least:
        of = f" of {least} splits; give is.splits=1" if is_score and len(rows) > 1 else ""
        return {"reason": f"{len(rows)} image{'' if len(rows) == 1 else 's'} can't give {short}{of}"}
    reference = scored.reference.arrays.get(metric.measure) if metric.references else None
    if metric.references and (reference is None or len(reference) < least):
        return {"reason": f"too few references for {short}"}
    value, sampled, more = sets.compute(metric.kind, x, reference, groups, config)
    estimate = sets.interval(metric.kind, value, sampled, groups, config["bootstrap"]["level"])
    counts = {"dimension": x.shape[-1], **({"crops": int(x.shape[1])} if x.ndim == 3 else {})}
    counts |= {} if reference is None else {"n_reference": len(reference)}
    warning = f"N={len(x)} is below {LEAST:,} images: {short} is biased downwards"
    few = is_score and len(x) < LEAST
    return {**_plain(estimate), **counts, **more, **({"warning": warning} if few else {})}


def _plain(estimate: Estimate) -> Interval:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
