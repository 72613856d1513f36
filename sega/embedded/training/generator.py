"""Train the transformer and the text encoders of the embedded model by rectified flow on rendered scenes.

The base phase learns the loss of `flow` and is told guidance 1. Distillation then teaches the model to give, in one
call, the velocity that the base has under classifier-free guidance; its scale is drawn for each sample and told to the
model, as FLUX.1-dev was made. Modulation, output and the guidance embedding start at zero; the written weights are an
exponential moving average. The whole scene is shown at every grid, so that positions are read relative to each other.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from sega.embedded.model import TEXT_TOKENS, THETA, assemble, build_text_encoders, build_transformer
from sega.embedded.training import record
from sega.embedded.training.flow import GUIDANCE, loss_of
from sega.embedded.training.latents import Latents
from sega.embedded.training.masters import Masters
from sega.embedded.training.pool import GRIDS
from sega.embedded.training.precision import working_dtype
from sega.errors import RequestError

TOKENS = {"cuda": 115_000, "cpu": 24_000}
"""Tokens a step, text included: about 5 s on two cores."""
ENCODING = 0.1
"""Share of the time that may go into encoding more renders."""
LOGGED, SAVED = 50, 60  # steps between entries of the curve, seconds between writings
MODULES = ("transformer", "text_encoder_2", "text_encoder")


@dataclass(frozen=True)
class Recipe:
    """What of a generator can be chosen."""

    theta: float | None = None  # rotary base; None: that of the weights it goes on from, else `THETA`
    seed: int = 1  # of weights, noise and the order of grids
    tokens: int | None = None  # in a step; None: `TOKENS`
    start_from: Path | None = None  # folder of weights to go on from
    new_transformer: bool = False  # of those, take over the text encoders alone


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


def rate_factor(step: int, done: float, warmup: int) -> float:
    """Factor on the learning rates: up over `warmup` steps, flat, and from 30 % of the time down to almost 0."""
    return min(1.0, (step + 1) / warmup) * min(1.0, max(0.0, (1 - done) / 0.7)) + 1e-3


def _theta(work: Path, part: str, recipe: Recipe) -> float:
    if part == "generator" and recipe.theta is not None:
        return recipe.theta
    before = work if part == "distillation" else None if recipe.new_transformer else recipe.start_from
    return record.read(before).get("generator", {}).get("theta", THETA) if before else THETA


def _starting_weights(work: Path, part: str, recipe: Recipe, theta: float) -> tuple[torch.nn.ModuleList, dict | None]:
    """The modules a phase starts with, on the CPU in float32, and what they were taken over from."""
    t5, clip = build_text_encoders()
    transformer = build_transformer(theta=theta)
    start_at_zero(transformer)
    taken: list[tuple[str, Path]] = []
    before = None
    if part == "distillation":
        if not (work / "base").is_dir():
            raise RequestError(f"no model to distil in {work / 'base'}: train it first with --part generator")
        taken = [(name, work / "base") for name in MODULES]
    elif recipe.start_from is not None:
        names = MODULES[1:] if recipe.new_transformer else MODULES
        taken = [(name, recipe.start_from / "pipeline") for name in names]
        last = "distillation" if "distillation" in record.read(recipe.start_from) else "generator"
        before = record.started_from(recipe.start_from, last, list(names))
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


def _write(work: Path, phase: Phase, average, autoencoder: Path, found: dict) -> dict:
    from diffusers import AutoencoderKL

    transformer, t5, clip = copy.deepcopy(average).cpu().half()
    vae = AutoencoderKL.from_pretrained(autoencoder, torch_dtype=torch.float16)
    assemble(transformer, vae, t5, clip).save_pretrained(work / phase.out, safe_serialization=True)
    return record.write(work, phase.part, found)


def train_generator(work: Path, latents: Latents, budget: record.Budget, part: str, recipe: Recipe) -> dict:
    """Train one phase for the `budget`, write a pipeline folder (float16) into `work`, return its record.

    `part` is `generator`, which writes `base`, or `distillation`, which starts from that and writes `pipeline`. The
    folder is written now and then before the end too. Raises RequestError where the base is missing.
    """
    phase, device = PHASES[part], str(latents.device)
    torch.manual_seed(recipe.seed)
    theta = _theta(work, part, recipe)
    modules, before = _starting_weights(work, part, recipe, theta)
    masters = Masters(modules, device, phase.rate)
    teacher = copy.deepcopy(masters.running).requires_grad_(False) if part == "distillation" else None
    grids, generator = (torch.Generator(where).manual_seed(recipe.seed) for where in ("cpu", device))
    tokens = recipe.tokens or TOKENS[latents.device.type]
    start, busy, saved = time.time(), time.process_time(), time.time()
    latents.encode(ENCODING / 2 * budget.seconds)
    step, seen, done, curve, losses = 0, 0, 0.0, [], []
    encoded = latents.seconds
    while done < 1:
        grid = GRIDS[int(torch.randint(len(GRIDS), (1,), generator=grids))]
        size = max(tokens // (grid[0] * grid[1] + TEXT_TOKENS), 1)
        loss = loss_of(masters.running, *latents.batch(grid, size, generator), grid, generator, teacher)
        loss.backward()
        masters.step(rate_factor(step, done, phase.warmup), min(phase.average, (step + 1) / (step + 10)))
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
                "theta": theta,
                "seed": recipe.seed,
                "precision": f"{str(working_dtype(device)).removeprefix('torch.')}, float32 masters",
                "parameters": sum(p.numel() for p in modules[0].parameters()),
                **record.machine(device),
                "started_from": before,
            }
            _write(work, phase, masters.average, latents.autoencoder, found)
    return found
