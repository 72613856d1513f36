"""Compute the measures of `eval/metrics/our_measures.py`.

Every measure is a function that takes a Context and returns a function `(Batch) -> list with one value per image`. A
value is a number, a dict of numbers, an array, or None (the image has no prompt or is smaller than a crop).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..records import images
from .learned import networks
from .pixels import artefacts


@dataclass
class Batch:
    """Images of one size with their prompts. `memo` stores results that several measures need."""

    images: np.ndarray  # uint8 [B, H, W, 3]
    keys: list[tuple[str, int]]
    prompts: list[str | None]
    numbers: list[int] = field(default_factory=list)  # places in the set of images
    memo: dict[str, Any] = field(default_factory=dict)

    def tensor(self):
        """uint8 [B, 3, H, W]."""
        if "tensor" not in self.memo:
            import torch

            array = np.ascontiguousarray(self.images.transpose(0, 3, 1, 2))
            self.memo["tensor"] = torch.from_numpy(array)
        return self.memo["tensor"]

    def luminance(self) -> np.ndarray:
        """float64 [B, H, W], 0..255, BT.601."""
        if "luminance" not in self.memo:
            self.memo["luminance"] = self.images @ np.array([0.299, 0.587, 0.114])
        return self.memo["luminance"]

    def reduced(self, side: int, whole: bool = False):
        """Return `networks.reduced` of the images, computed once for all networks of this input size."""
        key = f"reduced {side} {whole}"
        if key not in self.memo:
            self.memo[key] = networks.reduced(self.tensor(), side, whole)
        return self.memo[key]


@dataclass
class Context:
    """Input of measures: the options, the training size in pixels (None: unknown), and loaded networks."""

    config: dict[str, Any]
    native: int | None
    sources: dict[str, networks.Source]
    loaded: dict[str, networks.Network] = field(default_factory=dict)

    def network(self, kind: str) -> networks.Network:
        """Return a network by its kind. It is loaded once."""
        if kind not in self.loaded:
            self.loaded[kind] = networks.load(self.sources[kind], self.config["device"])
        return self.loaded[kind]


def crop_size(config: dict[str, Any], native: int | None) -> int | None:
    """Return the side of a crop in pixels."""
    return native if config["patch"]["size"] == "auto" else config["patch"]["size"]


def base_period(config: dict[str, Any], native: int | None) -> int | None:
    """Return the shift in pixels at which repetition is measured."""
    return native if config["repetition"]["period"] == "auto" else config["repetition"]["period"]


def seam_period(config: dict[str, Any], native: int | None) -> int | None:
    """Return the distance in pixels between the lines at which seams are measured."""
    if config["seam"]["period"] != "auto":
        return config["seam"]["period"]
    return native and native // 2


def embed(context: Context, kind: str, batch: Batch) -> np.ndarray:
    """Return the features of a network, [B, D] float32, computed once for all measures."""
    if kind not in batch.memo:
        network = context.network(kind)
        reduced = batch.reduced(network.side) if network.side else batch.tensor()
        batch.memo[kind] = network.image(reduced).float().cpu().numpy()
    return batch.memo[kind]


def features(context: Context) -> Callable[[Batch], list]:
    """Measure the features of an image, [D] float32."""
    return lambda batch: list(embed(context, context.config["features"], batch))


def clip_features(context: Context) -> Callable[[Batch], list]:
    """Measure the features of an image in the model of the CLIP score, [D] float32."""
    return lambda batch: list(embed(context, context.config["clip"]["model"], batch))


def logits(context: Context) -> Callable[[Batch], list]:
    """Measure the logits of the classes of an image, [K] float32."""
    kind = context.config["features"]
    return lambda batch: list(_head(context, embed(context, kind, batch)))


def patch_logits(context: Context) -> Callable[[Batch], list]:
    """Measure the logits of crops, [count, K] float32."""
    crops = patches(context)
    return lambda batch: [None if x is None else _head(context, x) for x in crops(batch)]


def _head(context: Context, features: np.ndarray) -> np.ndarray:
    import torch

    return context.network(context.config["features"]).head(torch.from_numpy(features)).float().cpu().numpy()


def spatial(context: Context) -> Callable[[Batch], list]:
    """Measure the first seven channels of a layer of Inception at its 17 x 17 places, [2023] float32."""
    network = context.network(context.config["features"])
    return lambda batch: list(network.spatial(batch.tensor()).float().cpu().numpy())


def patches(context: Context) -> Callable[[Batch], list]:
    """Measure the features of crops, [count, D] float32, computed once for all measures."""
    import torch

    patch, size = context.config["patch"], crop_size(context.config, context.native)
    network = context.network(context.config["features"])
    ordered = None
    if patch["places"] == "by_order":
        ordered = images.ordered_places(patch["resize"] - size, patch["count"], patch["seed"])

    def compute(batch: Batch) -> list:
        if "patches" not in batch.memo:
            batch.memo["patches"] = embedded(batch)
        return batch.memo["patches"]

    def embedded(batch: Batch) -> list:
        rows = []
        if (patch["resize"] or min(batch.images.shape[1:3])) < size:
            return [None] * len(batch.keys)
        for pixels, key, number in zip(batch.images, batch.keys, batch.numbers, strict=True):
            if patch["resize"]:
                pixels = images.squared(pixels, patch["resize"])
            if ordered:
                cut = images.cut(pixels, size, ordered(number))
            else:
                cut = images.crops(pixels, size, patch["count"], patch["seed"], key)
            rows.append(network.image(torch.from_numpy(np.ascontiguousarray(cut.transpose(0, 3, 1, 2)))))
        return list(torch.stack(rows).float().cpu().numpy())

    return compute


def spectrum(context: Context) -> Callable[[Batch], list]:
    """Measure the radial log power spectrum of the luminance in dB, [bands]."""
    bands = context.config["spectrum"]["bands"]
    return lambda batch: [artefacts.radial_spectrum(y, bands) for y in batch.luminance()]


def repetition(context: Context) -> Callable[[Batch], list]:
    """Measure the excess of the autocorrelation at the base period; the larger of both axes."""
    period = base_period(context.config, context.native)
    return lambda batch: [artefacts.repetition_at(y, period) for y in batch.luminance()]


def seam(context: Context) -> Callable[[Batch], list]:
    """Measure the roughness across the lines between windows over that beside them, in dB."""
    period = seam_period(context.config, context.native)
    return lambda batch: [artefacts.seam_energy(y, period) for y in batch.luminance()]


def flat_speckle(context: Context) -> Callable[[Batch], list]:
    """Measure the variance of the Laplacian in the flattest tiles, in squared grey levels."""
    return lambda batch: [artefacts.flat_speckle(y) for y in batch.luminance()]


def clip_score(context: Context) -> Callable[[Batch], list]:
    """Measure 100 times the cosine between image and prompt."""
    kind = context.config["clip"]["model"]
    network = context.network(kind)
    known: dict[str, np.ndarray] = {}

    def compute(batch: Batch) -> list:
        new = sorted({p for p in batch.prompts if p is not None} - set(known))
        if new:
            known.update(zip(new, network.text(new).float().cpu().numpy().astype(np.float64), strict=True))
        seen = embed(context, kind, batch).astype(np.float64)
        return [None if p is None else _cosine(x, known[p]) * 100 for x, p in zip(seen, batch.prompts, strict=True)]

    return compute


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def attributes(context: Context) -> Callable[[Batch], list]:
    """Measure 1 or 0 for each attribute in the caption, and their mean as `mean`."""
    from sega.embedded import world
    from sega.errors import RequestError

    network = context.network(context.config["clip"]["model"])

    def said(prompt: str | None) -> dict[str, str] | None:
        try:
            return None if prompt is None else world.parse_caption(prompt)
        except RequestError:  # a prompt of another world has no attributes
            return None

    def compute(batch: Batch) -> list:
        told = [said(prompt) for prompt in batch.prompts]
        if not any(told):
            return [None] * len(told)
        best = {name: p.argmax(-1).tolist() for name, p in network.attributes(batch.tensor()).items()}
        rows: list[dict[str, float] | None] = []
        for i, wanted in enumerate(told):
            if wanted is None:
                rows.append(None)
                continue
            hits = {name: float(world.ATTRIBUTES[name][best[name][i]] == wanted[name]) for name in world.SCORED}
            rows.append(hits | {"mean": sum(hits.values()) / len(hits)})
        return rows

    return compute
