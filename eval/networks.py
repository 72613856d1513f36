"""The networks behind features and CLIP score: what they are (cheap, no torch) and how they are loaded.

Weights that are not on disk raise MissingWeightsError with the way to get them; nothing is ever downloaded here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eval.records import file_digest
from sega.errors import RequestError

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION}"
EMBEDDED = Path(__file__).resolve().parent.parent / "sega" / "embedded" / "weights" / "scorer"


class MissingWeightsError(Exception):
    """A network that is not on disk; the message says what is missing and how to get it."""


@dataclass(frozen=True)
class Source:
    """Where a network comes from: its name, its files, and the hash of their contents."""

    kind: str  # "embedded" | "inception" | an open_clip model name
    path: Path
    weights: str


@dataclass
class Network:
    """A loaded network. `image` takes uint8 [B, 3, H, W] and gives float features [B, D]."""

    image: Callable
    text: Callable | None = None  # list of B strings to features [B, D]
    attributes: Callable | None = None  # uint8 [B, 3, H, W] to probabilities [B, values] for each attribute


def find(kind: str, config: dict[str, Any]) -> Source:
    """The source of a network, with its hash. Raises MissingWeightsError."""
    path = config["clip"]["path"]
    if kind == "embedded":
        folder = Path(path or EMBEDDED)
        files = [folder / "open_clip_config.json", folder / "open_clip_model.safetensors"]
        if not all(file.is_file() for file in files):
            raise MissingWeightsError(f"no scorer in {folder}; train it with `make train-embedded` or give clip.path")
        return Source(kind, folder, file_digest(*files))
    if kind == "inception":
        file = _torch_home() / "hub" / "checkpoints" / INCEPTION
        if not file.is_file():
            raise MissingWeightsError(f"no Inception weights at {file}; fetch them from {INCEPTION_URL}")
        return Source(kind, file, file_digest(file))
    if not path or not Path(path).is_file():
        raise MissingWeightsError(f"no weights of {kind}; give clip.path=<open_clip checkpoint of {kind}>")
    return Source(kind, Path(path), file_digest(Path(path)))


def _torch_home() -> Path:
    import os

    cache = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
    return Path(os.environ.get("TORCH_HOME", Path(cache) / "torch"))


@cache
def load(source: Source, device: str) -> Network:
    """Load a network on a device, once."""
    if source.kind == "embedded":
        from sega.embedded.scorer import load_scorer

        scorer = load_scorer(device, source.path)
        return Network(_scaled(scorer.image_features), scorer.text_features, scorer.attribute_probabilities)
    if source.kind == "inception":
        from torchmetrics.image.fid import NoTrainInceptionV3

        module = NoTrainInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(source.path))
        return Network(module.to(device).eval())
    return _open_clip(source, device)


def _open_clip(source: Source, device: str) -> Network:
    import open_clip
    import torch
    import torch.nn.functional as F

    if source.kind not in open_clip.list_models():
        raise RequestError(f"open_clip has no model {source.kind!r}; see open_clip.list_models()")
    model = open_clip.create_model(source.kind, pretrained=str(source.path), device=device).eval()
    tokenizer = open_clip.get_tokenizer(source.kind)
    side = model.visual.image_size
    side = side[0] if isinstance(side, tuple) else side
    mean = torch.tensor(model.visual.image_mean or open_clip.OPENAI_DATASET_MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(model.visual.image_std or open_clip.OPENAI_DATASET_STD, device=device).view(1, 3, 1, 1)

    @torch.no_grad()
    def image(pictures):
        x = pictures.to(device).float()
        scale = side / min(x.shape[-2:])  # the shorter side, then a central crop, as open_clip evaluates
        size = [max(side, round(n * scale)) for n in x.shape[-2:]]
        x = F.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 255).round()
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        return model.encode_image((x[..., top : top + side, left : left + side] / 255 - mean) / std)

    @torch.no_grad()
    def text(captions):
        return model.encode_text(tokenizer(captions).to(device)).float()

    return Network(_scaled(image), text)


def _scaled(embed: Callable) -> Callable:
    """Features at length sqrt(D): contrastive training fixes their direction only, and KID has the cube of the length.

    With it the kernel of KID lies between 0 and 8, and FID between 0 and 4 D, for any such model.
    """

    def scaled(pictures):
        features = embed(pictures).float()
        return features / features.norm(dim=-1, keepdim=True).clamp_min(1e-12) * features.shape[-1] ** 0.5

    return scaled
