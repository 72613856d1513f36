"""Train the transformer and the text encoders of the embedded model by rectified flow on rendered scenes.

Loss: mean square of the velocity eps - x0 at sigma = sigmoid(N(0.4, 1.1)). Muon moves the matrices of the blocks,
AdamW the rest; modulation and output start at zero; the written weights are an exponential moving average. The
whole scene is shown at several grids up to 16x16 tokens, so that positions are read relative to each other.
Captions are dropped for a tenth of the samples. The text encoders start from
`folder/text` and move slowly. Tokens where the caption's object may stand weigh up to `FOCUS` times more: the weight
depends on the caption alone, so what is learned stays the mean velocity, only sooner where it is hard.

On a CPU, `workers` processes of one thread each share every step (gradients averaged through gloo).
"""

from __future__ import annotations

import copy
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sega.embedded import world
from sega.embedded.model import assemble, build_text_encoders, build_tokenizer, build_transformer

GRIDS = ((16, 16), (16, 16), (12, 16), (16, 16), (16, 16), (16, 12), (16, 16), (16, 16), (12, 12), (16, 16))
"""Token grids (height, width) of the training pictures, in the order shards of them are made."""
SHARD = 192
TOKENS_A_STEP = 5120
TIME_MEAN, TIME_DEVIATION = 0.4, 1.1
DROP = 0.1
FOCUS = 5.0
PLACE_WORD = 6
"""Where a caption names the object's place, in words."""
EMA, DISTILLED_EMA = 0.998, 0.99
MUON_LR, ADAM_LR, TEXT_LR = 1.5e-3, 1.2e-3, 2e-4


def make_shards(folder: Path, vae_folder: Path, first: int, count: int, every: int, device: str, seed: int) -> None:
    """Render and encode shards first, first+every, ...

    A shard holds packed latents, float16 [SHARD, H*W, 32], and caption tokens, int16 [SHARD, 24].
    """
    from diffusers import AutoencoderKL, FluxPipeline

    torch.set_num_threads(1)
    os.nice(10)
    vae = AutoencoderKL.from_pretrained(vae_folder).to(device).eval()
    tokenizer = build_tokenizer()
    for index in range(first, count, every):
        path = folder / f"{index:05d}.pt"
        if path.exists():
            continue
        rng = np.random.default_rng([seed, 3, index])
        height, width = GRIDS[index % len(GRIDS)]
        scenes = [world.sample_scene(rng) for _ in range(SHARD)]
        ids = tokenizer([world.caption(s) for s in scenes], padding="max_length", return_tensors="pt").input_ids
        latents = []
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            for chunk in range(0, SHARD, 32):
                x = np.stack([world.render(s, width * 8, height * 8) for s in scenes[chunk : chunk + 32]])
                x = torch.from_numpy(x).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
                z = (vae.encode(x).latent_dist.mode().float() - vae.config.shift_factor) * vae.config.scaling_factor
                latents.append(FluxPipeline._pack_latents(z, len(z), z.shape[1], z.shape[2], z.shape[3]).cpu())
        torch.save(
            {"grid": (height, width), "latents": torch.cat(latents).half(), "ids": ids.short()},
            path.with_suffix(".tmp"),
        )
        path.with_suffix(".tmp").rename(path)


class Pool:
    """The shards made so far, by grid."""

    def __init__(self, folder: Path):
        self.folder, self.seen, self.shards = folder, set(), {}

    def refresh(self) -> None:
        for path in sorted(self.folder.glob("*.pt")):
            if path.name not in self.seen:
                shard = torch.load(path, weights_only=True)
                self.seen.add(path.name)
                self.shards.setdefault(tuple(shard["grid"]), []).append(shard)

    def batch(self, grid: tuple[int, int], size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        shards = self.shards[grid]
        pick = torch.randint(len(shards) * SHARD, (size,), generator=generator).tolist()
        return (
            torch.stack([shards[i // SHARD]["latents"][i % SHARD] for i in pick]).float(),
            torch.stack([shards[i // SHARD]["ids"][i % SHARD] for i in pick]).long(),
        )


def start_at_zero(transformer) -> None:
    """Zero the modulation and the output, so that training starts at the identity."""
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and (name == "proj_out" or ("norm" in name and name.endswith("linear"))):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)


def optimizers(transformer, t5, clip) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    matrices = [
        p for n, p in transformer.named_parameters() if p.ndim == 2 and "transformer_blocks" in n and ".norm" not in n
    ]
    chosen = {id(p) for p in matrices}
    rest = [p for p in transformer.parameters() if id(p) not in chosen]
    text = [*t5.parameters(), *clip.parameters()]
    muon = torch.optim.Muon(matrices, lr=MUON_LR, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": rest}, {"params": text, "lr": TEXT_LR}]
    return [muon, torch.optim.AdamW(groups, lr=ADAM_LR, weight_decay=0.01, betas=(0.9, 0.98))]


def place_weights(ids: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Weight of each token's error, float [batch, height*width] of mean 1, for captions of tokens [batch, TEXT_TOKENS].

    It rises with the chance that the token shows the object, given the place the caption names.
    """
    places = world.ATTRIBUTES["place"]
    words = build_tokenizer().convert_tokens_to_ids(list(places))
    chance = torch.from_numpy(np.stack([world.object_chance(place, height, width) for place in places]))
    weight = 1 + (FOCUS - 1) * chance.flatten(1)
    weight = weight / weight.mean(1, keepdim=True)
    said = ids[:, PLACE_WORD]
    return torch.stack([weight[words.index(w)] for w in said.tolist()])


def plain_attention(query, key, value, **_: object) -> torch.Tensor:
    """Softmax attention, [batch, heads, tokens, dim]: at few tokens on a CPU the faster one to go back through."""
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return torch.softmax(logits.float(), -1).to(query.dtype) @ value


def _image_ids(height: int, width: int, device: str) -> torch.Tensor:
    ids = torch.zeros(height, width, 3, device=device)
    ids[..., 1] = torch.arange(height, device=device)[:, None]
    ids[..., 2] = torch.arange(width, device=device)[None]
    return ids.reshape(-1, 3)


def _velocity(
    parts, noisy: torch.Tensor, sigma: torch.Tensor, ids: torch.Tensor, grid: tuple[int, int]
) -> torch.Tensor:
    transformer, t5, clip = parts
    device = noisy.device
    with torch.autocast(device.type, torch.bfloat16):
        velocity = transformer(
            hidden_states=noisy,
            encoder_hidden_states=t5(input_ids=ids).last_hidden_state,
            pooled_projections=clip(input_ids=ids).pooler_output,
            timestep=sigma,
            img_ids=_image_ids(*grid, device),
            txt_ids=torch.zeros(ids.shape[1], 3, device=device),
            return_dict=False,
        )[0]
    return velocity.float()


def _loss(
    parts, latents, ids, grid, device: str, generator: torch.Generator, teacher=None, guidance=1.0
) -> torch.Tensor:
    sigma = torch.sigmoid(TIME_MEAN + TIME_DEVIATION * torch.randn(len(latents), generator=generator)).to(device)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    empty = torch.zeros_like(ids)
    empty[:, 0] = 2
    weight = place_weights(ids, *grid).to(device)[..., None]
    latents, ids, empty = latents.to(device), ids.to(device), empty.to(device)
    noisy = (1 - sigma[:, None, None]) * latents + sigma[:, None, None] * noise
    if teacher is None:
        drop = torch.rand(len(ids), generator=generator) < DROP
        ids = torch.where(drop[:, None].to(device), empty, ids)
        target = noise - latents
    else:
        with torch.no_grad():
            plain = _velocity(teacher, noisy, sigma, empty, grid)
            target = plain + guidance * (_velocity(teacher, noisy, sigma, ids, grid) - plain)
    return (weight * (_velocity(parts, noisy, sigma, ids, grid) - target).square()).mean()


def _load(module, folder: Path) -> None:
    module.load_state_dict(type(module).from_pretrained(folder, torch_dtype=torch.float32).state_dict())


def _worker(
    rank: int,
    workers: int,
    folder: Path,
    seconds: float,
    device: str,
    seed: int,
    start_from: Path | None,
    guidance: float | None,
) -> None:
    if device == "cpu":
        torch.set_num_threads(1)
        torch.nn.functional.scaled_dot_product_attention = plain_attention  # this process does nothing but train
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=workers)
    torch.manual_seed(seed)
    t5, clip = build_text_encoders()
    transformer = build_transformer()
    start_at_zero(transformer)
    if start_from is not None:
        for module, name in ((transformer, "transformer"), (t5, "text_encoder_2"), (clip, "text_encoder")):
            _load(module, start_from / name)
    if (folder / "text").is_dir() and guidance is None:
        _load(t5, folder / "text" / "text_encoder_2")
        _load(clip, folder / "text" / "text_encoder")
    parts = torch.nn.ModuleList([transformer, t5, clip]).to(device)
    average = copy.deepcopy(parts).requires_grad_(False)
    teacher = None if guidance is None else copy.deepcopy(average)
    steppers = optimizers(*parts)
    rates = [group["lr"] * (1 if guidance is None else 0.4) for s in steppers for group in s.param_groups]
    parameters = [p for p in parts.parameters() if p.requires_grad]
    shared = torch.Generator().manual_seed(seed)
    own = torch.Generator().manual_seed(seed * 1000 + rank)
    pool = Pool(folder / "shards")
    while len(pool.shards) < len(set(GRIDS)):
        time.sleep(2)
        pool.refresh()
    before = _record_of(start_from)
    start, step, done, curve, seen, smooth = time.time(), 0, 0.0, [], 0, None
    saved = start
    while done < 1:
        grid = GRIDS[int(torch.randint(len(GRIDS), (1,), generator=shared))]
        size = max(TOKENS_A_STEP // (grid[0] * grid[1]) // workers, 1)
        loss = _loss(parts, *pool.batch(grid, size, own), grid, device, own, teacher, guidance or 1.0)
        loss.backward()
        gradients = [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten().cpu() for p in parameters]
        message = torch.cat([*gradients, torch.tensor([(time.time() - start) / seconds, float(loss.detach())])])
        if workers > 1:
            dist.all_reduce(message)
            message /= workers
        done, mean_loss = float(message[-2]), float(message[-1])
        message = message * min(1.0, 1.0 / (float(message[:-2].norm()) + 1e-6))
        offset = 0
        for p in parameters:
            p.grad = message[offset : offset + p.numel()].view_as(p).to(device)
            offset += p.numel()
        factor = min(1, (step + 1) / 60) * min(1, max(0.0, (1 - done) / 0.8)) + 1e-3
        for rate, group in zip(rates, [g for s in steppers for g in s.param_groups], strict=True):
            group["lr"] = rate * factor
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad()
        decay = min(EMA if teacher is None else DISTILLED_EMA, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(average.parameters()), list(parts.parameters()), 1 - decay)
        step, seen = step + 1, seen + size * workers
        smooth = mean_loss if smooth is None else 0.98 * smooth + 0.02 * mean_loss
        if step % 50 == 0:
            pool.refresh()
            curve.append((step, round(smooth, 4)))
            if rank == 0:
                print(f"generator step {step}, {100 * done:.1f} %, loss {smooth:.4f}, {seen} pictures", flush=True)
        if rank == 0 and (time.time() - saved > 300 or done >= 1):
            saved = time.time()
            record = {
                "steps": step,
                "seconds": round(saved - start),
                "pictures": seen,
                "distinct": SHARD * len(pool.seen),
                "loss": round(smooth, 4),
                "workers": workers,
                "device": device,
                "curve": curve,
                "guidance": guidance,
                "started_from": before,
            }
            _write(folder, average, record)
    dist.barrier()
    dist.destroy_process_group()


def _record_of(pipeline: Path | None) -> dict | None:
    """The record of the run that made a pipeline, which lies beside its folder or, installed, in training.json."""
    if pipeline is None:
        return None
    own, package = pipeline.parent / "generator.json", pipeline.parent / "training.json"
    if own.is_file():
        return json.loads(own.read_text())
    return json.loads(package.read_text())["generator"] if package.is_file() else None


def _write(folder: Path, average, record: dict) -> None:
    from diffusers import AutoencoderKL

    transformer, t5, clip = copy.deepcopy(average).cpu().half()
    pipe = assemble(transformer, AutoencoderKL.from_pretrained(folder / "vae").half(), t5, clip)
    pipe.save_pretrained(folder / "pipeline", safe_serialization=True)
    name = "generator" if record["guidance"] is None else "distillation"
    (folder / f"{name}.json").write_text(json.dumps(record))


def train_generator(
    folder: Path,
    seconds: float,
    device: str = "cpu",
    workers: int = 2,
    shards: int = 240,
    seed: int = 1,
    start_from: Path | None = None,
    guidance: float | None = None,
) -> dict:
    """Train for `seconds` with the autoencoder in `folder/vae`, write `folder/pipeline` (float16), return the record.

    `start_from` is a pipeline folder whose weights training goes on from. With `guidance` it is the teacher:
    its velocity under classifier-free guidance of this scale is what the model learns to give in one call, as
    FLUX.1-dev was made; the record is then `distillation.json`.
    """
    folder = folder.resolve()
    (folder / "shards").mkdir(exist_ok=True)
    (folder / "rendezvous").unlink(missing_ok=True)
    makers = workers
    spawn = mp.get_context("spawn")
    jobs = [
        spawn.Process(
            target=make_shards, args=(folder / "shards", folder / "vae", i, shards, makers, "cpu", seed), daemon=True
        )
        for i in range(makers)
    ]
    for job in jobs:
        job.start()
    mp.spawn(_worker, (workers, folder, seconds, device, seed, start_from, guidance), nprocs=workers)
    for job in jobs:
        job.terminate()
    return json.loads((folder / ("generator.json" if guidance is None else "distillation.json")).read_text())
