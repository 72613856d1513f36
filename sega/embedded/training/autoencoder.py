"""Train the autoencoder of the embedded model on crops of rendered scenes (L1 + MSE + a small KL)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sega.embedded import world
from sega.embedded.model import NATIVE, build_autoencoder
from sega.embedded.training import record
from sega.embedded.training.pool import GRIDS, LARGE, TOKEN_PIXELS, Pool, read
from sega.embedded.training.precision import autocast

CROP = 64
CROPS = {"cuda": 96, "cpu": 16}
"""Crops a step."""
GROUPS = 4
"""Parts of a batch, each from one shard, so that a batch mixes sizes."""
SCENE_SHARDS = 64
"""How many shards of scenes are held; the large ones are all held."""
RENEWED = 300
"""Steps after which new shards are read."""


def render_pool(side: int, count: int, seed: int) -> torch.Tensor:
    """`count` square renders, uint8 [count, 3, side, side]."""
    rng = np.random.default_rng([seed, side])
    images = [world.render(world.sample_scene(rng), side, side) for _ in range(count)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


class Crops:
    """Random crops of the shards rendered so far, held on the device by kind: scenes, 384 px, 768 px."""

    def __init__(self, pool: Pool, device: str, seed: int):
        self.pool, self.device = pool, device
        self.held: dict[str, dict[str, torch.Tensor]] = {"scenes": {}} | {f"large{side}": {} for side, _ in LARGE}
        self.shared = torch.Generator().manual_seed(seed)
        self.own = torch.Generator(device).manual_seed(seed)
        for kind in self.held:
            pool.wait(kind, len(GRIDS) if kind == "scenes" else 1)
        self.renew()

    def renew(self) -> None:
        """Read the shards that are new."""
        for kind, shards in self.held.items():
            for path in self.pool.paths(kind)[:SCENE_SHARDS]:
                if path.name not in shards and path.exists():
                    shards[path.name] = read(path)[0].to(self.device)

    def _draw(self, count: int) -> int:
        return int(torch.randint(count, (1,), generator=self.shared))

    def batch(self, size: int) -> torch.Tensor:
        """Float32 [size, 3, CROP, CROP] in -1..1: half of the groups from scenes, half from any kind; half mirrored."""
        return torch.cat([self._group(size // GROUPS) for _ in range(GROUPS)])

    def _group(self, size: int) -> torch.Tensor:
        kinds = list(self.held.values())
        shards = list(kinds[self._draw(len(kinds)) if self._draw(2) else 0].values())
        shard = shards[self._draw(len(shards))]
        which, top, left = (
            torch.randint(high, (size, 1, 1), generator=self.own, device=self.device)
            for high in (len(shard), shard.shape[-2] - CROP + 1, shard.shape[-1] - CROP + 1)
        )
        span = torch.arange(CROP, device=self.device)
        cut = shard[which, :, top + span[None, :, None], left + span[None, None, :]].permute(0, 3, 1, 2)
        cut = cut.float() / 127.5 - 1
        return cut.flip(-1) if self._draw(2) else cut


@torch.no_grad()
def psnr(vae, pool: torch.Tensor) -> float:
    """Reconstruction of a pool of renders, dB."""
    errors = []
    for image in pool:
        x = image[None].to(vae.device).float() / 127.5 - 1
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        errors.append((x - y).square().mean() / 4)
    return float(-10 * torch.stack(errors).mean().log10())


def quality(vae, sides: Sequence[int], count: int, seed: int) -> dict[str, float]:
    """Reconstruction of `count` fresh renders for each side in px, dB."""
    return {str(side): round(psnr(vae, render_pool(side, count, seed)), 2) for side in sides}


@torch.no_grad()
def set_scale(vae, pool: Pool) -> None:
    """Write the shift and scale into the autoencoder's config that give latents of native renders mean 0 and
    deviation 1."""
    native = pool.wait("scenes", len(GRIDS))[GRIDS.index((NATIVE // TOKEN_PIXELS,) * 2)]
    x = read(native)[0].to(vae.device).float() / 127.5 - 1
    z = torch.cat([vae.encode(part).latent_dist.mode() for part in x.split(8)])
    vae.register_to_config(shift_factor=float(z.mean()), scaling_factor=float(1 / z.std()))


def train_autoencoder(
    work: Path,
    pool: Pool,
    budget: record.Budget,
    device: str = "cpu",
    seed: int = 1,
    checks: int = 16,
    start_from: Path | None = None,
) -> dict:
    """Train for the `budget`, write `work/vae` with its scaling and shift, return the record of the run.

    `checks` fresh renders of each size measure the result. `start_from` is a folder of weights to go on from.
    """
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    vae = build_autoencoder()
    if start_from is not None:
        vae = AutoencoderKL.from_pretrained(start_from / "pipeline" / "vae", torch_dtype=torch.float32)
    vae = vae.to(device, memory_format=torch.channels_last).train()
    crops, batch = Crops(pool, device, seed), CROPS["cuda" if device.startswith("cuda") else "cpu"]
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=1e-3, betas=(0.9, 0.99))
    start, step, curve = time.time(), 0, []
    while (done := budget.done(step, start)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * (1 - done) ** 0.8 + 1e-5
        x = crops.batch(batch).contiguous(memory_format=torch.channels_last)
        with autocast(x.device.type):
            posterior = vae.encode(x).latent_dist
            y = vae.decode(posterior.sample()).sample
        y = y.float()
        loss = (x - y).abs().mean() + 2 * (x - y).square().mean() + 1e-4 * posterior.kl().mean() / (CROP * CROP / 16)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            curve.append((step, round(loss.item(), 4)))
            print(f"autoencoder step {step}, {100 * done:.0f} %, loss {loss.item():.4f}", flush=True)
        if step % RENEWED == 0:
            crops.renew()
    took = round(time.time() - start)
    vae.eval()
    set_scale(vae, pool)
    found = {
        "steps": step,
        "seconds": took,
        "crops_a_step": batch,
        "curve": curve,
        "psnr_db": quality(vae, (NATIVE, 2 * NATIVE, 4 * NATIVE), checks, seed + 1),
        **record.machine(device),
        "started_from": record.started_from(start_from, "autoencoder", ["vae"]),
    }
    vae.cpu().save_pretrained(work / "vae", safe_serialization=True)
    return record.write(work, "autoencoder", found)
