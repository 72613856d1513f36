"""Latents for the generator's training: rendered shards, encoded by the trained autoencoder on the training device."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from sega.embedded.training.pool import GRIDS, TOKEN_PIXELS, Pool, read
from sega.embedded.training.precision import autocast
from sega.errors import RequestError

AHEAD = 64
"""How many of the next shards are looked for: the workers finish them out of order."""


class Latents:
    """Packed latents and caption tokens of the shards encoded so far, by token grid.

    For a grid (h, w): bfloat16 [N, h*w, 32] and int64 [N, TEXT_TOKENS], on `device`. `seconds` is the time spent
    encoding. `autoencoder` is the folder of the weights that encode.
    """

    def __init__(self, pool: Pool, autoencoder: Path, device: str):
        from diffusers import AutoencoderKL

        if not autoencoder.is_dir():
            raise RequestError(f"no autoencoder in {autoencoder}: train it first with --part autoencoder")
        self.device, self.autoencoder = torch.device(device), autoencoder
        vae = AutoencoderKL.from_pretrained(autoencoder, torch_dtype=torch.float32)
        self.vae = vae.to(device, memory_format=torch.channels_last).eval()
        self.by_grid: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}
        self.pending = pool.paths("scenes")
        self.seconds, self.distinct = 0.0, 0
        pool.wait("scenes", len(GRIDS))
        while len(self.by_grid) < len(set(GRIDS)):
            self.encode_next()

    def encode(self, seconds: float) -> None:
        """Encode the shards that are there, for at most so long."""
        end = self.seconds + seconds
        while self.seconds < end and self.encode_next():
            pass

    def encode_next(self) -> bool:
        """Encode one new shard; False when there is none."""
        path = next((path for path in self.pending[:AHEAD] if path.exists()), None)
        if path is None:
            return False
        if self.device.type == "cuda":
            torch.cuda.synchronize()  # else the steps that still run would count as encoding
        start = time.time()
        self.pending.remove(path)
        images, ids = read(path)
        latents = self._encode(images)
        grid = (images.shape[-2] // TOKEN_PIXELS, images.shape[-1] // TOKEN_PIXELS)
        new = (latents, ids.to(self.device))
        old = self.by_grid.get(grid)
        self.by_grid[grid] = new if old is None else tuple(torch.cat(pair) for pair in zip(old, new, strict=True))
        self.distinct += len(images)
        self.seconds += time.time() - start
        return True

    @torch.no_grad()
    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        from diffusers import FluxPipeline

        config, found = self.vae.config, []
        for part in images.split(32):
            x = part.to(self.device, memory_format=torch.channels_last).float() / 127.5 - 1
            with autocast(self.device.type):
                z = self.vae.encode(x).latent_dist.mode()
            z = (z.float() - config.shift_factor) * config.scaling_factor
            found.append(FluxPipeline._pack_latents(z, *z.shape).bfloat16())
        return torch.cat(found)

    def batch(self, grid: tuple[int, int], size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Random latents, float32 [size, h*w, 32], and their caption tokens [size, TEXT_TOKENS]."""
        latents, ids = self.by_grid[grid]
        pick = torch.randint(len(ids), (size,), generator=generator, device=self.device)
        return latents[pick].float(), ids[pick]
