"""Train the transformer and the text encoders of the embedded model by rectified flow on rendered scenes.

Loss: mean square of the velocity eps - x0 at sigma = sigmoid(N(0.4, 1.1)). Muon moves the matrices of the blocks,
AdamW the rest; modulation, output and the guidance embedding start at zero; the written weights are an exponential
moving average. The whole scene is shown at every grid, so that positions are read relative to each other. Captions
are dropped for a tenth of the samples. Tokens where the caption's object may stand weigh up to `FOCUS` times more:
the weight depends on the caption alone, so what is learned stays the mean velocity, only sooner where it is hard.

The base phase is told guidance 1. Distillation then teaches the model to give, in one call, the velocity that the
base has under classifier-free guidance; its scale is drawn for each sample and told to the model, as FLUX.1-dev was
made.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from sega.embedded import world
from sega.embedded.model import TEXT_TOKENS, THETA, assemble, build_text_encoders, build_tokenizer, build_transformer
from sega.embedded.training import record
from sega.embedded.training.latents import Latents
from sega.embedded.training.pool import GRIDS, Pool
from sega.errors import RequestError

TOKENS = {"cuda": 115_000, "cpu": 24_000}
"""Tokens a step, text included: 0.1 s on an H100, about 5 s on two cores."""
TIME_MEAN, TIME_DEVIATION = 0.4, 1.1
DROP = 0.1
FOCUS = 3.0
PLACE_WORD = 6
"""Where a caption names the object's place, in words."""
GUIDANCE = (1.0, 4.5)
"""Guidance scales of the distillation, uniform."""
END = 2
"""The end token: an empty caption is this one and padding."""
MUON_LR, ADAM_LR, TEXT_LR = 2.5e-3, 2e-3, 2e-4
ENCODING = 0.1
"""Share of the time that may go into encoding more renders."""
LOGGED, SAVED = 50, 300  # steps between entries of the curve, seconds between writings
MODULES = ("transformer", "text_encoder_2", "text_encoder")


@dataclass(frozen=True)
class Phase:
    """What the base phase and the distillation do differently."""

    part: str  # name of its record
    out: str  # folder it writes
    rate: float  # factor on the learning rates
    warmup: int  # steps
    average: float  # largest decay of the moving average


PHASES = {
    phase.part: phase
    for phase in (
        Phase("generator", "base", rate=1.0, warmup=100, average=0.999),
        Phase("distillation", "pipeline", rate=0.4, warmup=50, average=0.997),
    )
}


def start_at_zero(transformer) -> None:
    """Zero the modulation, the output and the guidance embedding, so that training starts at the identity."""
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and (
            name == "proj_out"
            or ("norm" in name and name.endswith("linear"))
            or name.endswith("guidance_embedder.linear_2")
        ):
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


def rate_factor(step: int, done: float, warmup: int) -> float:
    """Factor on the learning rates: up over `warmup` steps, flat, and from 30 % of the time down to almost 0."""
    return min(1.0, (step + 1) / warmup) * min(1.0, max(0.0, (1 - done) / 0.7)) + 1e-3


@lru_cache
def place_weights(height: int, width: int, device: str) -> torch.Tensor:
    """Weights of the error of each token, float [vocabulary, height*width], by the word that names the place; mean 1.

    A weight rises with the chance that the token shows the object. Words that name no place weigh all tokens alike.
    """
    tokenizer = build_tokenizer()
    weights = torch.ones(len(tokenizer), height * width)
    for place in world.ATTRIBUTES["place"]:
        weight = 1 + (FOCUS - 1) * world.object_chance(place, height, width).ravel()
        weights[tokenizer.convert_tokens_to_ids(place)] = torch.from_numpy(weight / np.mean(weight))
    return weights.to(device)


@lru_cache
def _image_ids(height: int, width: int, device: str) -> torch.Tensor:
    ids = torch.zeros(height, width, 3, device=device)
    ids[..., 1] = torch.arange(height, device=device)[:, None]
    ids[..., 2] = torch.arange(width, device=device)[None]
    return ids.reshape(-1, 3)


def velocity(parts, noisy, sigma, ids, grid: tuple[int, int], guidance: torch.Tensor) -> torch.Tensor:
    """Predicted velocity, float32 like `noisy` [B, h*w, 32], for sigma [B], caption tokens [B, 24] and guidance [B]."""
    transformer, t5, clip = parts
    device = noisy.device
    with torch.autocast(device.type, torch.bfloat16):
        found = transformer(
            hidden_states=noisy,
            encoder_hidden_states=t5(input_ids=ids).last_hidden_state,
            pooled_projections=clip(input_ids=ids).pooler_output,
            timestep=sigma,
            guidance=guidance,
            img_ids=_image_ids(*grid, str(device)),
            txt_ids=torch.zeros(TEXT_TOKENS, 3, device=device),
            return_dict=False,
        )[0]
    return found.float()


def loss_of(parts, latents, ids, grid: tuple[int, int], generator: torch.Generator, teacher=None) -> torch.Tensor:
    """Loss of one batch of latents [B, h*w, 32] and caption tokens; towards the guided `teacher` where there is one."""
    count, device = len(latents), latents.device
    sigma = torch.sigmoid(TIME_MEAN + TIME_DEVIATION * torch.randn(count, generator=generator, device=device))
    noise = torch.randn(latents.shape, generator=generator, device=device)
    noisy = torch.lerp(latents, noise, sigma[:, None, None])
    weight = place_weights(*grid, str(device))[ids[:, PLACE_WORD]][..., None]
    empty, one = torch.zeros_like(ids), torch.ones(count, device=device)
    empty[:, 0] = END
    if teacher is None:
        guidance, target = one, noise - latents
        drop = torch.rand(count, generator=generator, device=device) < DROP
        ids = torch.where(drop[:, None], empty, ids)
    else:
        low, high = GUIDANCE
        guidance = low + (high - low) * torch.rand(count, generator=generator, device=device)
        with torch.no_grad():
            plain = velocity(teacher, noisy, sigma, empty, grid, one)
            said = velocity(teacher, noisy, sigma, ids, grid, one)
            target = plain + guidance[:, None, None] * (said - plain)
    return (weight * (velocity(parts, noisy, sigma, ids, grid, guidance) - target).square()).mean()


def _starting_weights(work: Path, part: str, start_from: Path | None) -> tuple[torch.nn.ModuleList, dict | None]:
    """The modules a phase starts with, on the CPU in float32, and what they were taken over from."""
    t5, clip = build_text_encoders()
    transformer = build_transformer()
    start_at_zero(transformer)
    taken: list[tuple[str, Path]] = []
    before = None
    if part == "distillation":
        if not (work / "base").is_dir():
            raise RequestError(f"no model to distil in {work / 'base'}: train it first with --part generator")
        taken = [(name, work / "base") for name in MODULES]
    elif start_from is not None:
        taken = [(name, start_from / "pipeline") for name in MODULES]
        last = "distillation" if "distillation" in record.read(start_from) else "generator"
        before = record.started_from(start_from, last, list(MODULES))
    elif (work / "text").is_dir():
        taken = [(name, work / "text") for name in MODULES[1:]]
        before = record.started_from(work, "text", list(MODULES[1:]))
    modules = dict(zip(MODULES, (transformer, t5, clip), strict=True))
    for name, folder in taken:
        module = modules[name]
        module.load_state_dict(type(module).from_pretrained(folder / name, torch_dtype=torch.float32).state_dict())
    return torch.nn.ModuleList(modules.values()), before


def _mean(losses: list[torch.Tensor]) -> float:
    """Mean of the last LOGGED losses."""
    return round(float(torch.stack(losses[-LOGGED:]).mean()), 4)


def _write(work: Path, phase: Phase, average, vae_folder: Path, found: dict) -> dict:
    from diffusers import AutoencoderKL

    transformer, t5, clip = copy.deepcopy(average).cpu().half()
    vae = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float16)
    assemble(transformer, vae, t5, clip).save_pretrained(work / phase.out, safe_serialization=True)
    return record.write(work, phase.part, found)


def train_generator(
    work: Path,
    pool: Pool,
    budget: record.Budget,
    device: str = "cpu",
    part: str = "generator",
    tokens: int | None = None,
    seed: int = 1,
    start_from: Path | None = None,
) -> dict:
    """Train one phase for the `budget`, write a pipeline folder (float16) into `work`, return its record.

    `part` is `generator`, which writes `base`, or `distillation`, which starts from that and writes `pipeline`.
    `tokens` are those of a step. `start_from` is a folder of weights whose pipeline the generator goes on from.
    Raises RequestError where the autoencoder or the base is missing.
    """
    from diffusers import AutoencoderKL

    phase, vae_folder = PHASES[part], work / "vae"
    if start_from is not None and not vae_folder.is_dir():
        vae_folder = start_from / "pipeline" / "vae"
    if not vae_folder.is_dir():
        raise RequestError(f"no autoencoder in {vae_folder}: train it first with --part autoencoder")
    torch.manual_seed(seed)
    parts, before = _starting_weights(work, part, start_from)
    parts = parts.to(device)
    average = copy.deepcopy(parts).requires_grad_(False)
    teacher = copy.deepcopy(average) if part == "distillation" else None
    parameters = [p for p in parts.parameters() if p.requires_grad]
    steppers = optimizers(*parts)
    groups = [group for stepper in steppers for group in stepper.param_groups]
    rates = [group["lr"] * phase.rate for group in groups]
    grids, generator = torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed)
    tokens = tokens or TOKENS["cuda" if device.startswith("cuda") else "cpu"]
    latents = Latents(pool, AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float32), device)
    while latents.seconds < ENCODING / 2 * budget.seconds and latents.encode_next():
        pass
    start, busy, saved = time.time(), time.process_time(), time.time()
    step, seen, done, curve, losses = 0, 0, 0.0, [], []
    encoded = latents.seconds
    while done < 1:
        grid = GRIDS[int(torch.randint(len(GRIDS), (1,), generator=grids))]
        size = max(tokens // (grid[0] * grid[1] + TEXT_TOKENS), 1)
        for rate, group in zip(rates, groups, strict=True):
            group["lr"] = rate * rate_factor(step, done, phase.warmup)
        loss = loss_of(parts, *latents.batch(grid, size, generator), grid, generator, teacher)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad()
        decay = min(phase.average, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(average.parameters()), list(parts.parameters()), 1 - decay)
        step, seen = step + 1, seen + size
        losses.append(loss.detach())
        if latents.seconds - encoded < ENCODING * (time.time() - start):
            latents.encode_next()
        if step % LOGGED == 0:
            curve.append((step, _mean(losses)))
            print(f"{part} step {step}, {100 * done:.1f} %, loss {curve[-1][1]:.4f}, {seen} images", flush=True)
        done = budget.done(step, start)
        if time.time() - saved > SAVED or done >= 1:
            saved = time.time()
            found = {
                "steps": step,
                "seconds": round(saved - start),
                "busy_seconds": round(time.process_time() - busy),
                "pictures": seen,
                "distinct": latents.distinct,
                "tokens_a_step": tokens,
                "loss": _mean(losses),
                "curve": curve,
                "guidance": [1.0, 1.0] if teacher is None else list(GUIDANCE),
                "grids": GRIDS,
                "theta": THETA,
                "parameters": sum(p.numel() for p in parts[0].parameters()),
                **record.machine(device),
                "started_from": before,
            }
            _write(work, phase, average, vae_folder, found)
    return found
