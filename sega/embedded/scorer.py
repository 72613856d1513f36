"""The scorer of the embedded model: a small open_clip model trained on scenes and captions of the same world.

It gives the CLIP score, the image features of FID and KID, and by zero-shot the attributes an image shows. The
folder holds `open_clip_config.json` and `open_clip_model.safetensors`, and is loaded by
`open_clip.create_model("local-dir:...")`.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from sega.embedded import world
from sega.embedded.model import TEXT_TOKENS, WEIGHTS, build_tokenizer
from sega.errors import RequestError

SCORER = WEIGHTS / "scorer"
INPUT = 192
FEATURES = 64
CONFIG = {
    "embed_dim": FEATURES,
    "vision_cfg": {"image_size": INPUT, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "text_cfg": {
        "context_length": TEXT_TOKENS,
        "vocab_size": len(world.VOCABULARY) + 3,
        "width": 128,
        "heads": 4,
        "layers": 2,
        "pool_type": "eos",
        "eos_id": 2,
        "pad_id": 0,
    },
}
PROTOTYPES = 48
"""Captions averaged for each value of an attribute in the zero-shot classifier."""


class Scorer:
    """Image and text features of one world, and what an image shows. Features are float32 and not normalised."""

    def __init__(self, model: torch.nn.Module, device: str = "cpu"):
        self.model, self.device = model.to(device).eval(), device
        self.tokenizer = build_tokenizer()
        self._prototypes: dict[str, torch.Tensor] | None = None

    @torch.no_grad()
    def image_features(self, images: torch.Tensor) -> torch.Tensor:
        """Features [B, FEATURES] of uint8 images [B, 3, H, W] of any size (antialiased bicubic to INPUT)."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise RequestError(f"the scorer takes uint8 images [B, 3, H, W], not {images.dtype} {list(images.shape)}")
        return self.model.encode_image(prepare(images.to(self.device))).float()

    @torch.no_grad()
    def text_features(self, captions: list[str]) -> torch.Tensor:
        """Features [B, FEATURES] of captions."""
        ids = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.model.encode_text(ids.to(self.device)).float()

    def attribute_probabilities(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """For each attribute, probabilities [B, values] over `world.ATTRIBUTES[name]`, by zero-shot."""
        if self._prototypes is None:
            self._prototypes = {name: self._prototype(name) for name in world.ATTRIBUTES}
        features = F.normalize(self.image_features(images), dim=-1)
        scale = self.model.logit_scale.exp().detach()
        return {name: (scale * features @ p.T).softmax(-1) for name, p in self._prototypes.items()}

    def _prototype(self, name: str) -> torch.Tensor:
        rows = []
        for value in world.ATTRIBUTES[name]:
            # the same draws for every value, so that prototypes differ by this attribute alone
            scenes = [world.scene_for(text, 0) for text in world.prompts(4711, PROTOTYPES)]
            captions = [world.caption(world.sample_scene(_rng(), s.said | {name: value})) for s in scenes]
            rows.append(F.normalize(F.normalize(self.text_features(captions), dim=-1).mean(0), dim=-1))
        return torch.stack(rows)


def _rng():
    import numpy as np

    return np.random.default_rng(0)


def prepare(images: torch.Tensor) -> torch.Tensor:
    """uint8 [B, 3, H, W] to the scorer's input, float [B, 3, INPUT, INPUT] of mean about 0."""
    x = images.float() / 255
    if x.shape[-2:] != (INPUT, INPUT):
        x = F.interpolate(x, (INPUT, INPUT), mode="bicubic", antialias=True, align_corners=False)
    return (x - 0.5) / 0.25


def load_scorer(device: str = "cpu", folder: Path = SCORER) -> Scorer:
    """The trained scorer. Raises RequestError when its files are missing."""
    import open_clip

    if not (folder / "open_clip_model.safetensors").is_file():
        raise RequestError(f"no scorer in {folder}; train it with `make train-embedded` or check the clone")
    return Scorer(open_clip.create_model(f"local-dir:{folder}"), device)
