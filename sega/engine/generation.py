"""One image while it is generated, as the parts of a method see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sega.engine.noise import noise_seed
from sega.engine.timeshift import stage_sigmas
from sega.methods.base import Method
from sega.methods.types import ImageRequest, Stage
from sega.models.base import Adapter


def seeded(seed: int, prompt: str, size: tuple[int, int], purpose: str = "noise") -> torch.Generator:
    """A CPU generator for one purpose of one image, so that values do not depend on the device."""
    return torch.Generator("cpu").manual_seed(noise_seed(seed, prompt, size, purpose))


@dataclass
class ImageGeneration:
    """Implements `sega.methods.types.Generation`, whose docstrings say what each attribute is."""

    adapter: Adapter
    method: Method
    prompt: str
    seed: int
    request: ImageRequest
    stages: list[Stage]
    generator: torch.Generator
    latent: Tensor | None = None
    guide: Tensor | None = None
    state: Any = None
    predictions: dict[float, Tensor] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return self.adapter.device

    @property
    def double_layers(self) -> int:
        return len(self.adapter.transformer.transformer_blocks)

    def noise(self, size: tuple[int, int]) -> Tensor:
        generator = seeded(self.seed, self.prompt, size)
        return torch.randn(self.adapter.latent_shape(size), generator=generator).to(self.device)

    def random(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.device)

    def sigmas(self, index: int) -> list[float]:
        stage, adapter = self.stages[index], self.adapter
        _, _, height, width = adapter.latent_shape(stage.size)
        line, unshifted = adapter.shift(self.method.geometry), adapter.unshifted_sigmas(stage)
        return stage_sigmas(adapter.pipe.scheduler, stage, height * width // 4, line, unshifted)

    def decode(self, latent: Tensor) -> Tensor:
        return self.adapter.decode(latent)

    def encode(self, image: Tensor, sample: bool = False) -> Tensor:
        return self.adapter.encode(image, self.generator if sample else None)
