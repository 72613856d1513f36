"""Measure image quality without references: NIQE, MUSIQ, MANIQA, CLIP-IQA and Q-Align by pyiqa, and PIQE.

Images are measured one at a time, at full size. pyiqa downloads weights that it does not find, so each metric is built
with the path of a file on disk.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

from ..measures import Batch, Context
from .weights import find

NIQE_BLOCK = 96
"""Side of NIQE's blocks in pixels. NIQE needs the covariance of at least two blocks."""


def piqe(context: Context) -> Callable[[Batch], list]:
    """Return the measure PIQE, 0 (best) to 100."""
    from ..pixels.piqe import piqe as score

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


def qalign(context: Context) -> Callable[[Batch], list]:
    """Return the measure Q-Align (arXiv 2312.17090) of quality: 1 (bad) to 5 (excellent)."""
    metric = load_qalign(_path(context, "qalign"), context.config["device"])
    return _each(lambda image: metric(image, task_="quality"))


def qalign_aesthetic(context: Context) -> Callable[[Batch], list]:
    """Return the measure Q-Align of the aesthetic: the same model with another question."""
    metric = load_qalign(_path(context, "qalign"), context.config["device"])
    return _each(lambda image: metric(image, task_="aesthetic"))


@cache
def load_qalign(folder: str, device: str):
    """Return pyiqa's `qalign` with the model of a local folder, in float16. It is loaded once for both questions.

    The image, padded to a square, goes to 448 px. The score is the mean of 5 to 1 over the next-token probabilities of
    excellent, good, fair, poor and bad. With transformers 5.23 the question begins with a BOS token, as in Q-Align's
    own code, where the tokenizer is a sentencepiece file. We have not seen the published files: a small model of random
    weights tests this.
    """
    with local_owl(folder):
        return _created("qalign", device)


@contextlib.contextmanager
def local_owl(folder: str) -> Iterator[ModuleType]:
    """Let pyiqa's module of Q-Align's model load from a folder. Yields the module.

    pyiqa 0.1.16 names a repository of the hub in its code, imports a package that it neither uses nor requires, and
    calls a function that transformers 5 has removed. All three are replaced. Its import changes transformers' Llama for
    the whole process; nothing else here uses one.
    """
    import torch

    unused = ModuleType("icecream")
    unused.ic = None
    if sys.modules.setdefault("icecream", unused) is unused:
        from pyiqa.archs.q_align import modeling_mplug_owl2

        del sys.modules["icecream"]
    from pyiqa.archs import qalign_arch
    from pyiqa.archs.q_align import modeling_mplug_owl2
    from pyiqa.archs.q_align.visual_encoder import MplugOwlVisualAbstractorModel as Abstractor

    def inverted(self, mask):
        """0 where the mask is 1 and the lowest number where it is 0, [B, 1, 1, L]."""
        return (1 - mask[:, None, None].to(self.dtype)) * torch.finfo(self.dtype).min

    if not hasattr(Abstractor, "invert_attention_mask"):
        Abstractor.invert_attention_mask = inverted
    places = [(modeling_mplug_owl2, "LlamaTokenizer"), (modeling_mplug_owl2, "CLIPImageProcessor")]
    places += [(qalign_arch, "CLIPImageProcessor"), (qalign_arch, "MPLUGOwl2LlamaForCausalLM")]
    kinds = [getattr(module, name) for module, name in places]
    for (module, name), kind in zip(places, kinds, strict=True):
        setattr(module, name, _Local(kind, folder))
    try:
        yield modeling_mplug_owl2
    finally:
        for (module, name), kind in zip(places, kinds, strict=True):
            setattr(module, name, kind)


class _Local:
    """Replacement of a class that loads from a folder, whatever name it is given."""

    def __init__(self, kind: Any, folder: str):
        self.kind, self.folder = kind, folder

    def from_pretrained(self, name: str, trust_remote_code: bool = False, **options: Any):
        return self.kind.from_pretrained(self.folder, local_files_only=True, **options)


def _path(context: Context, name: str) -> str:
    return str(find(name, context.config["weights"])[0])


def _metric(context: Context, name: str, **options: Any):
    return _created(name, context.config["device"], **options)


def _created(name: str, device: str, **options: Any):
    import pyiqa

    with _silent():
        return pyiqa.create_metric(name, device=device, **options)


def _silent():
    """Drop the messages that pyiqa prints while it loads weights."""
    return contextlib.redirect_stdout(io.StringIO())


def _each(metric: Any, fits: Callable[[int, int], bool] = lambda height, width: True) -> Callable[[Batch], list]:
    def compute(batch: Batch) -> list:
        if not fits(*batch.images.shape[1:3]):
            return [None] * len(batch.keys)
        return [float(metric(image[None].float() / 255)) for image in batch.tensor()]

    return compute
