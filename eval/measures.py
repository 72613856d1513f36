"""How each measure of `eval.metrics.MEASURES` is computed.

Every function here takes a Context and gives a function `(Batch) -> list of one value a picture`. A value is a
number, a dict of numbers, an array, or None for a picture that has none (no prompt, smaller than a crop).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval import images, networks


@dataclass
class Batch:
    """Pictures of one size with their prompts; what one measure computed and another needs is kept in `memo`."""

    pictures: np.ndarray  # uint8 [B, H, W, 3]
    keys: list[tuple[str, int]]
    prompts: list[str | None]
    memo: dict[str, Any] = field(default_factory=dict)

    def tensor(self):
        """uint8 [B, 3, H, W]."""
        if "tensor" not in self.memo:
            import torch

            array = np.ascontiguousarray(self.pictures.transpose(0, 3, 1, 2))
            self.memo["tensor"] = torch.from_numpy(array)
        return self.memo["tensor"]

    def luminance(self) -> np.ndarray:
        """float64 [B, H, W], 0..255, BT.601."""
        if "luminance" not in self.memo:
            self.memo["luminance"] = self.pictures @ np.array([0.299, 0.587, 0.114])
        return self.memo["luminance"]


@dataclass
class Context:
    """What measures may use: the options, the native side in pixels (None: unknown), loaded networks."""

    config: dict[str, Any]
    native: int | None
    sources: dict[str, networks.Source]
    loaded: dict[str, networks.Network] = field(default_factory=dict)

    def network(self, kind: str) -> networks.Network:
        """A network by its kind, loaded once."""
        if kind not in self.loaded:
            self.loaded[kind] = networks.load(self.sources[kind], self.config["device"])
        return self.loaded[kind]


def crop_size(config: dict[str, Any], native: int | None) -> int | None:
    """Side of a crop in pixels."""
    return native if config["patch"]["size"] == "auto" else config["patch"]["size"]


def base_period(config: dict[str, Any], native: int | None) -> int | None:
    """The shift, in pixels, at which repetition is looked for."""
    return native if config["repetition"]["period"] == "auto" else config["repetition"]["period"]


def _embed(context: Context, kind: str, batch: Batch) -> np.ndarray:
    if kind not in batch.memo:
        batch.memo[kind] = context.network(kind).image(batch.tensor()).float().cpu().numpy()
    return batch.memo[kind]


def features(context: Context) -> Callable[[Batch], list]:
    """Image features [D], float32."""
    return lambda batch: list(_embed(context, context.config["features"], batch))


def patches(context: Context) -> Callable[[Batch], list]:
    """Features of crops [count, D], float32."""
    import torch

    patch, size = context.config["patch"], crop_size(context.config, context.native)
    network = context.network(context.config["features"])

    def compute(batch: Batch) -> list:
        rows = []
        if min(batch.pictures.shape[1:3]) < size:
            return [None] * len(batch.keys)
        for picture, key in zip(batch.pictures, batch.keys, strict=True):
            cut = images.crops(picture, size, patch["count"], patch["seed"], key)
            rows.append(network.image(torch.from_numpy(np.ascontiguousarray(cut.transpose(0, 3, 1, 2)))))
        return list(torch.stack(rows).float().cpu().numpy())

    return compute


def spectrum(context: Context) -> Callable[[Batch], list]:
    """Radial log power spectrum of luminance, dB, [bands]."""
    bands = context.config["spectrum"]["bands"]
    return lambda batch: [radial_spectrum(y, bands) for y in batch.luminance()]


def radial_spectrum(luminance: np.ndarray, bands: int) -> np.ndarray:
    """10 log10 of the mean power in each band, float64 [at most bands].

    The picture [H, W] in 0..255 loses its mean and takes a Hann window. Frequencies run from one cycle over the
    shorter side to half a cycle a pixel; band edges are log-spaced and rounded to whole cycles, so that no band is
    empty. White noise of quantisation (1/12) is added, which keeps flat pictures finite.
    """
    height, width = luminance.shape
    window = np.hanning(height)[:, None] * np.hanning(width)[None]
    power = np.abs(np.fft.rfft2((luminance - luminance.mean()) * window)) ** 2 / (window**2).sum()
    side = min(height, width)
    ring = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) * side
    edges = np.unique(np.round(np.geomspace(1, side // 2 + 1, bands + 1)).astype(int))
    place = np.digitize(np.rint(ring), edges) - 1
    inside = (place >= 0) & (place < len(edges) - 1)
    weight = np.full(power.shape, 2.0)  # rfft2 holds half the plane
    weight[:, 0] = 1
    if width % 2 == 0:
        weight[:, -1] = 1
    total = np.bincount(place[inside], (power * weight)[inside], len(edges) - 1)
    count = np.bincount(place[inside], weight[inside], len(edges) - 1)
    return 10 * np.log10(total / count + 1 / 12)


def clip_score(context: Context) -> Callable[[Batch], list]:
    """100 times the cosine between picture and prompt."""
    kind = context.config["clip"]["model"]
    network = context.network(kind)
    known: dict[str, np.ndarray] = {}

    def compute(batch: Batch) -> list:
        new = sorted({p for p in batch.prompts if p is not None} - set(known))
        if new:
            known.update(zip(new, network.text(new).float().cpu().numpy().astype(np.float64), strict=True))
        seen = _embed(context, kind, batch).astype(np.float64)
        return [None if p is None else _cosine(x, known[p]) * 100 for x, p in zip(seen, batch.prompts, strict=True)]

    return compute


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def attributes(context: Context) -> Callable[[Batch], list]:
    """1 or 0 for each attribute the caption names, and their mean as `mean`."""
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


def piqe(context: Context) -> Callable[[Batch], list]:
    """PIQE of pyiqa, one picture at a time."""
    import pyiqa

    metric = pyiqa.create_metric("piqe", device=context.config["device"])

    def compute(batch: Batch) -> list:
        return [float(metric(picture[None].float() / 255)) for picture in batch.tensor()]

    return compute


def repetition(context: Context) -> Callable[[Batch], list]:
    """How far the autocorrelation stands out at the base period, the larger of both axes."""
    period = base_period(context.config, context.native)
    return lambda batch: [repetition_at(y, period) for y in batch.luminance()]


def repetition_at(luminance: np.ndarray, period: int) -> float | None:
    """Autocorrelation r at a shift of `period` less the mean of r at 3/4 and 5/4 of it; None for a smaller picture.

    Along x each row first loses its mean (a horizon correlates with itself at any shift); along y rows stay whole,
    since a repeated horizon is what is looked for. A picture tiled at the period reaches about 1, one without a
    period stays near 0.
    """
    found = []
    for axis, length in ((0, luminance.shape[0]), (1, luminance.shape[1])):
        if length < 2 * period:
            continue
        y = luminance if axis == 0 else (luminance - luminance.mean(1, keepdims=True)).T
        r = [_shifted(y, round(period * factor)) for factor in (0.75, 1.0, 1.25)]
        found.append(r[1] - (r[0] + r[2]) / 2)
    return max(found) if found else None


def _shifted(y: np.ndarray, lag: int) -> float:
    a, b = y[:-lag] - y[:-lag].mean(), y[lag:] - y[lag:].mean()
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-9))
