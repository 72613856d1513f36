"""Find and load the networks of features and CLIP score. Finding them is fast and does not import torch.

Weights that are not on disk raise `MissingWeightsError`, whose message says how to get them. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sega import embedded
from sega.errors import RequestError

from ...records.files import file_digest
from . import dinov2, lite0, weights
from .weights import MissingWeightsError

EMBEDDED = Path(embedded.__file__).parent / "weights" / "scorer"
OPENAI = {
    "ViT-L-14-quickgelu": "clip-vit-l-14",
    "ViT-B-16-quickgelu": "clip-vit-b-16",
    "RN50-quickgelu": "clip-rn50",
}
"""open_clip's names of OpenAI's models, whose files are in the catalogue of weights."""
INCEPTION = {"inception": True, "inception_tf": False}
"""Whether the resize to 299 px is antialiased (torchmetrics) or not (TensorFlow, pytorch-fid)."""


@dataclass(frozen=True)
class Source:
    """Name and files of a network, and the hash of their contents."""

    kind: str  # "embedded" | "inception" | "inception_tf" | "lite0" | "dinov2" | an open_clip model name
    path: Path
    weights: str


@dataclass
class Network:
    """A loaded network. `image` takes uint8 [B, 3, H, W] and returns float features [B, D].

    With `side`, it takes images that `reduced` has resized to that side.
    """

    image: Callable
    text: Callable | None = None  # list of B strings to features [B, D]
    attributes: Callable | None = None  # uint8 [B, 3, H, W] to probabilities [B, values] for each attribute
    side: int = 0
    head: Callable | None = None  # float features [..., D] to logits [..., classes]
    spatial: Callable | None = None  # uint8 [B, 3, H, W] to the features of sFID, [B, 2023]


def find(kind: str, config: dict[str, Any]) -> Source:
    """Return the source of a network with its hash. Raises MissingWeightsError."""
    path = config["clip"]["path"]
    if kind == "embedded":
        folder = Path(path or EMBEDDED)
        files = [folder / "open_clip_config.json", folder / "open_clip_model.safetensors"]
        if not all(file.is_file() for file in files):
            raise MissingWeightsError(f"no scorer in {folder}; train it with `make train-embedded` or give clip.path")
        return Source(kind, folder, file_digest(*files))
    folder = config.get("weights")
    if kind in INCEPTION:
        return Source(kind, *weights.find("inception", folder))
    if kind == "lite0":
        return Source(kind, *lite0.find())
    if kind == "dinov2":
        return Source(kind, *weights.find("dinov2-vit-l-14", folder))
    if path and kind == config["clip"]["model"]:
        if not Path(path).is_file():
            raise MissingWeightsError(f"no file at clip.path={path}")
        return Source(kind, Path(path), file_digest(Path(path)))
    if kind in OPENAI:
        return Source(kind, *weights.find(OPENAI[kind], folder))
    raise MissingWeightsError(
        f"no weights of {kind}; give clip.path=<open_clip checkpoint of {kind}>, or one of OpenAI's: "
        + ", ".join(f"clip.model={name} ({weights.line(file)})" for name, file in OPENAI.items())
    )


@cache
def load(source: Source, device: str) -> Network:
    """Load a network on a device. It is loaded once."""
    if source.kind == "embedded":
        from sega.embedded.scorer import load_scorer

        scorer = load_scorer(device, source.path)
        return Network(_scaled(scorer.image_features), scorer.text_features, scorer.attribute_probabilities)
    if source.kind in INCEPTION:
        from torchmetrics.image.fid import NoTrainInceptionV3

        module = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(source.path), INCEPTION[source.kind])
        return _inception(module.to(device).eval(), device)
    if source.kind == "lite0":
        image, head = lite0.load(source.path, device)
        return Network(image, head=head)
    if source.kind == "dinov2":
        return Network(dinov2.load(source.path, device))
    return _open_clip(source, device)


def _inception(module, device: str) -> Network:
    weight = module.fc.weight.detach()

    def spatial(images):
        found = []
        hook = module.Mixed_6d.branch1x1.register_forward_hook(lambda *call: found.append(call[2]))
        try:
            module(images.to(device))
        finally:
            hook.remove()
        return found[0][:, :7].flatten(1)

    def head(features):
        return features.to(device) @ weight.T  # without the bias, as Inception Scores take them

    return Network(lambda images: module(images.to(device)), head=head, spatial=spatial)


def _open_clip(source: Source, device: str) -> Network:
    import open_clip
    import torch

    if source.kind not in open_clip.list_models():
        raise RequestError(f"open_clip has no model {source.kind!r}; see open_clip.list_models()")
    if source.kind in OPENAI and source.path.suffix == ".pt":  # OpenAI's own archive, which is not a state dict
        model = open_clip.load_openai_model(str(source.path), precision="fp32", device=device).eval()
    else:
        model = open_clip.create_model(source.kind, pretrained=str(source.path), device=device).eval()
    tokenizer = open_clip.get_tokenizer(source.kind)
    side = model.visual.image_size
    side = side[0] if isinstance(side, tuple) else side
    mean = torch.tensor(model.visual.image_mean or open_clip.OPENAI_DATASET_MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(model.visual.image_std or open_clip.OPENAI_DATASET_STD, device=device).view(1, 3, 1, 1)

    @torch.no_grad()
    def image(images):
        return model.encode_image((images.to(device).float() / 255 - mean) / std)

    @torch.no_grad()
    def text(captions):
        return model.encode_text(tokenizer(captions).to(device)).float()

    return Network(_scaled(image), text, side=side)


def reduced(images, side: int, whole: bool = False):
    """Resize images uint8 [B, 3, H, W] on the CPU to [B, 3, side, side], as the processors of open_clip and CLIP do.

    The filter is antialiased bicubic with rounding. The shorter side becomes `side` and the middle is cut out. With
    `whole` the longer side becomes `side`, and the rest is black.
    """
    import torch.nn.functional as F

    height, width = images.shape[-2:]
    if (height, width) == (side, side):
        return images
    scale = side / (max if whole else min)(height, width)
    size = [max(1 if whole else side, round(n * scale)) for n in (height, width)]
    x = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)  # of uint8, as Pillow does
    if whole:
        top, left = (side - size[0]) // 2, (side - size[1]) // 2
        return F.pad(x, (left, side - size[1] - left, top, side - size[0] - top))
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    return x[..., top : top + side, left : left + side]


def _scaled(embed: Callable) -> Callable:
    """Scale features to length sqrt(D), because contrastive training fixes their direction only.

    The kernel of KID is then between 0 and 8, and FID between 0 and 4 D, for any such model.
    """

    def scaled(images):
        features = embed(images).float()
        return features / features.norm(dim=-1, keepdim=True).clamp_min(1e-12) * features.shape[-1] ** 0.5

    return scaled
