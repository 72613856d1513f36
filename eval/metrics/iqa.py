"""Measure image quality without references: NIQE, MUSIQ, MANIQA and CLIP-IQA by pyiqa, and PIQE.

Images are measured one at a time, at full size. pyiqa downloads weights that it does not find, so each metric is built
with the path of a file on disk.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

from .measures import Batch, Context
from .weights import find

NIQE_BLOCK = 96
"""Side of NIQE's blocks in pixels. NIQE needs the covariance of at least two blocks."""


def piqe(context: Context) -> Callable[[Batch], list]:
    """Return the measure PIQE, 0 (best) to 100."""
    from .piqe import piqe as score

    return lambda batch: [score(image) for image in batch.images]


def niqe(context: Context) -> Callable[[Batch], list]:
    """Return the measure NIQE, lower is better. None for an image of fewer than two blocks of 96 px."""
    return _each(
        _metric(context, "niqe", pretrained_model_path=_path(context, "niqe")),
        lambda height, width: (height // NIQE_BLOCK) * (width // NIQE_BLOCK) >= 2,
    )


def musiq(context: Context) -> Callable[[Batch], list]:
    """Return the measure MUSIQ trained on KonIQ-10k, about 0 to 100. An image of 4096 px needs GBs of memory."""
    return _each(_metric(context, "musiq", pretrained=False, pretrained_model_path=_path(context, "musiq")))


def maniqa(context: Context) -> Callable[[Batch], list]:
    """Return the measure MANIQA trained on KonIQ-10k, about 0 to 1: mean of 20 crops of 224 px on a grid."""
    import timm
    from pyiqa.archs import maniqa_arch
    from pyiqa.archs.arch_util import load_pretrained_network

    class Untrained:
        """Replacement of timm that does not download the backbone, whose weights are in the file."""

        @staticmethod
        def create_model(name, pretrained):
            return timm.create_model(name, pretrained=False)

    maniqa_arch.timm = Untrained
    try:
        metric = _metric(context, "maniqa", pretrained=False)
    finally:
        maniqa_arch.timm = timm
    with _silent():
        load_pretrained_network(metric.net, _path(context, "maniqa"))
    return _each(metric)


def clipiqa(context: Context) -> Callable[[Batch], list]:
    """Return the measure CLIP-IQA on OpenAI's RN50, five pairs of prompts, 0 to 1."""
    return _each(_metric(context, "clipiqa", backbone=_path(context, "clip-rn50")))


def _path(context: Context, name: str) -> str:
    return str(find(name, context.config["weights"])[0])


def _metric(context: Context, name: str, **options: Any):
    import pyiqa

    with _silent():
        return pyiqa.create_metric(name, device=context.config["device"], **options)


def _silent():
    """Drop the messages that pyiqa prints while it loads weights."""
    return contextlib.redirect_stdout(io.StringIO())


def _each(metric: Any, fits: Callable[[int, int], bool] = lambda height, width: True) -> Callable[[Batch], list]:
    def compute(batch: Batch) -> list:
        if not fits(*batch.images.shape[1:3]):
            return [None] * len(batch.keys)
        return [float(metric(image[None].float() / 255)) for image in batch.tensor()]

    return compute
