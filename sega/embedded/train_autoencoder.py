"""Train the autoencoder of the embedded model on crops of rendered scenes (L1 + MSE + a small KL).

The decoder is refined once more by itself, with the encoder frozen, so that the generator can be trained on the latents
meanwhile.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch

from sega.embedded import world
from sega.embedded.model import build_autoencoder

SIZES = ((128, 1600), (256, 500), (512, 200))  # side in px, scenes rendered
CROP = 64


def render_pool(side: int, count: int, seed: int) -> torch.Tensor:
    """`count` square renders, uint8 [count, 3, side, side]."""
    rng = np.random.default_rng([seed, side])
    pictures = [world.render(world.sample_scene(rng), side, side) for _ in range(count)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def crops(pools: list[torch.Tensor], batch: int, generator: torch.Generator) -> torch.Tensor:
    """Random crops of one random pool, float [batch, 3, CROP, CROP] in -1..1; half the batches are mirrored."""
    pool = pools[int(torch.randint(len(pools), (1,), generator=generator))]
    side = pool.shape[-1]
    which = torch.randint(len(pool), (batch,), generator=generator)
    corner = torch.randint(side - CROP + 1, (batch, 2), generator=generator)
    cut = torch.stack(
        [pool[i, :, y : y + CROP, x : x + CROP] for i, (y, x) in zip(which, corner.tolist(), strict=True)]
    )
    cut = cut.float() / 127.5 - 1
    return cut.flip(-1) if torch.rand((), generator=generator) < 0.5 else cut


@torch.no_grad()
def psnr(vae, pool: torch.Tensor) -> float:
    """Reconstruction of a pool of renders, dB."""
    errors = []
    for picture in pool:
        x = picture[None].float() / 127.5 - 1
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        errors.append((x - y).square().mean() / 4)
    return float(-10 * torch.stack(errors).mean().log10())


def train_autoencoder(folder: Path, seconds: float, device: str = "cpu", seed: int = 1) -> dict:
    """Train for `seconds`, write `vae/` under `folder` with its scaling and shift, return the record of the run."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    pools = [render_pool(side, count, seed) for side, count in SIZES]
    vae = build_autoencoder().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=1e-3, betas=(0.9, 0.99))
    start, step, curve = time.time(), 0, []
    while (done := (time.time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * (1 - done) ** 0.8 + 1e-5
        x = crops(pools, 16, generator).to(device, memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
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
            curve.append((step, round(float(loss), 4)))
            print(f"autoencoder step {step}, {100 * done:.0f} %, loss {float(loss):.4f}", flush=True)
    vae = vae.to("cpu").eval()
    with torch.no_grad():
        z = torch.cat([vae.encode(p[None].float() / 127.5 - 1).latent_dist.mode() for p in pools[0][:200]])
    vae.register_to_config(shift_factor=float(z.mean()), scaling_factor=float(1 / z.std()))
    quality = {str(side): psnr(vae, render_pool(side, 8, seed + 1)) for side, _ in SIZES}
    vae.save_pretrained(folder / "vae", safe_serialization=True)
    record = {"steps": step, "seconds": round(time.time() - start), "psnr_db": quality, "curve": curve}
    (folder / "autoencoder.json").write_text(json.dumps(record))
    return record


def refine_decoder(folder: Path, seconds: float, device: str = "cpu", seed: int = 2) -> dict:
    """Train the decoder of `folder/vae` for `seconds` more with the encoder frozen; write it and return the record."""
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    pools = [render_pool(side, count, seed) for side, count in SIZES]
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(device, memory_format=torch.channels_last)
    before = {str(side): psnr(vae, render_pool(side, 8, 5)) for side, _ in SIZES}
    vae.encoder.requires_grad_(False)
    optimizer = torch.optim.AdamW(vae.decoder.parameters(), lr=1e-3, weight_decay=1e-3, betas=(0.9, 0.99))
    start, step = time.time(), 0
    while (done := (time.time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 50) * (1 - done) + 1e-5
        x = crops(pools, 16, generator).to(device, memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            with torch.no_grad():
                z = vae.encode(x).latent_dist.mode()
            y = vae.decode(z).sample
        loss = (x - y.float()).abs().mean() + 2 * (x - y.float()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.decoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"decoder step {step}, {100 * done:.0f} %, loss {float(loss):.4f}", flush=True)
    vae = vae.to("cpu").eval()
    vae.save_pretrained(folder / "vae", safe_serialization=True)
    record = {
        "steps": step,
        "seconds": round(time.time() - start),
        "psnr_db_before": before,
        "psnr_db": {str(side): psnr(vae, render_pool(side, 8, 5)) for side, _ in SIZES},
    }
    (folder / "decoder.json").write_text(json.dumps(record))
    return record
