"""Latents on their two ways: into tokens for the transformer, and through the autoencoder into pixels.

Two mixins for adapters. Shapes are those of `sega.models.base`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from sega.models.base import Adapter
from sega.models.tiles import OVERLAP, tiled


class PackedLatents(Adapter):
    """Latents whose cells are packed 2 x 2 into tokens."""

    def pack(self, latent: Tensor) -> Tensor:
        """[B, C, 2H, 2W] -> [B, H*W, 4C], index (channel, dy, dx) within a token."""
        batch, channels, height, width = latent.shape
        cells = latent.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
        return cells.reshape(batch, (height // 2) * (width // 2), 4 * channels)

    def unpack(self, packed: Tensor, grid: tuple[int, int]) -> Tensor:
        """[B, H*W, 4C] -> [B, C, 2H, 2W]."""
        batch, _, channels = packed.shape
        cells = packed.reshape(batch, *grid, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return cells.reshape(batch, channels // 4, 2 * grid[0], 2 * grid[1])

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """[1, C, 2H, 2W] of an image of (width, height) pixels."""
        width, height = (side // self.pipe.vae_scale_factor for side in size)
        return (1, self.latent_channels(), height, width)

    def latent_channels(self) -> int:
        """C; the transformer counts the channels of a token, 4C."""
        return self.transformer.config.in_channels // 4

    def put_latent(self, call: dict[str, Any], latent: Tensor) -> dict[str, Any]:
        """The call with another latent [B, C, 2H, 2W], whose grid may differ."""
        packed = self.pack(latent).to(call["hidden_states"].dtype)
        return self.put_grid(call | {"hidden_states": packed}, (latent.shape[-2] // 2, latent.shape[-1] // 2))

    @abstractmethod
    def put_grid(self, call: dict[str, Any], grid: tuple[int, int]) -> dict[str, Any]:
        """The call with the arguments that tell the transformer the grid of `hidden_states`."""


class TiledAutoencoder(Adapter):
    """An autoencoder with a Gaussian posterior; images with a side beyond `tile` go through it in tiles."""

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """The image [B, 3, h, w] in -1..1 of a latent; float32 if tiled, else in the dtype of the autoencoder."""
        latent = self.denormalise(latent.to(self.device, self.pipe.vae.dtype))
        return self._in_tiles(self.decode_tile, latent, 1, self.pipe.vae_scale_factor)

    @torch.no_grad()
    def encode(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        """The latent, float32, of an image in -1..1: drawn with `generator`, or the mode of the posterior without."""
        image = image.to(self.device, self.pipe.vae.dtype)
        posterior = DiagonalGaussianDistribution(self._in_tiles(self.encode_tile, image, self.pipe.vae_scale_factor, 1))
        latent = posterior.mode() if generator is None else posterior.sample(generator)
        return self.normalise(latent.float())

    def _in_tiles(self, run: Callable[[Tensor], Tensor], x: Tensor, cell_in: int, cell_out: int) -> Tensor:
        cell = self.pipe.vae_scale_factor
        if self.tile is None or max(x.shape[-2:]) // cell_in * cell <= self.tile:
            return run(x)
        return tiled(run, x, cell_in, cell_out, self.tile // cell, OVERLAP // cell)

    def normalise(self, latent: Tensor) -> Tensor:
        """A latent of the autoencoder as the transformer knows it: by default with one shift and one factor."""
        return (latent - self.pipe.vae.config.shift_factor) * self.pipe.vae.config.scaling_factor

    def denormalise(self, latent: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return latent / self.pipe.vae.config.scaling_factor + self.pipe.vae.config.shift_factor

    def decode_tile(self, latent: Tensor) -> Tensor:
        """The image of a denormalised latent, or of a part of it."""
        return self.pipe.vae.decode(latent, return_dict=False)[0]

    def encode_tile(self, image: Tensor) -> Tensor:
        """Mean and logarithm of the variance of the posterior, [B, 2C, ...], of an image or a part of it."""
        return self.pipe.vae.encode(image).latent_dist.parameters
