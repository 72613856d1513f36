"""Estimate the memory of a generation before loading, and choose a placement that fits. Does not import torch.

Weights are counted in the files; activations and decoding are the live tensors of the stock classes at their peak,
without workspace and fragmentation, for which a tenth is added. Methods are held to a tenth more at most
(`scripts/bench_memory.py`), so there is nothing in it for them.
"""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError
from sega.loading.caching import read_cache
from sega.methods.types import Stage
from sega.models.tiles import OVERLAP, spans

if TYPE_CHECKING:
    from sega.loading.schema import ModelConfig
    from sega.run.cell import Cell

MODES = ("auto", "gpu", "offload", "group", "sequential")
GB = 1e9
MARGIN = 1.1
WIDTHS = {"FluxTransformer2DModel": 17.3, "QwenImageTransformer2DModel": 14.9}
"""Live values a token at the peak of a call, in units of the model's width."""
KEPT = {"first_block": 3, "sea": 3, "taylorseer": 0}
"""Values a token that a step cache keeps from step to step, in the same units, for each prompt of guidance."""
CHANNELS = {"AutoencoderKL": 3.01, "AutoencoderKLQwenImage": 9.02}
"""Live values an output pixel at the peak of decoding, in units of the channels at full resolution."""
SHARES = {None: 1.0, "8bit": 0.52, "4bit": 0.30, "fp8": 0.64}
"""Weights after quantisation: most layers, their scales included. FLUX's modulations, a quarter, stay out of fp8."""


@dataclass(frozen=True)
class Estimate:
    """Bytes on the device."""

    transformer: float
    text: float
    vae: float
    activations: float  # of one transformer call
    decoding: float
    block: float  # of the transformer's weights
    encoders_stay: bool
    tiles: bool

    def needs(self, mode: str) -> float:
        """Bytes at the peak of a generation in this mode, without text encoders that are unloaded before."""
        text = self.text if self.encoders_stay else 0.0
        work = max(self.activations, self.decoding)
        if mode == "gpu":
            total = self.transformer + self.vae + text + work
        elif mode == "offload":
            total = max(self.transformer + self.activations, self.vae + self.decoding, text)
        elif mode == "group":
            total = 3 * self.block + self.vae + text + work  # one computes, one comes, one leaves
        else:
            total = self.block + work
        return total * MARGIN


@dataclass(frozen=True)
class Placement:
    """The placement of a generation, of the text encoders that run before it, and why."""

    mode: str  # one of MODES
    text_mode: str  # of the text encoders
    estimate: Estimate | None  # None: a class whose needs are not known
    budget: float | None  # bytes; None: unknown
    device: str

    @property
    def fits(self) -> bool:
        return self.budget is None or self.estimate is None or self.estimate.needs(self.mode) <= self.budget

    @property
    def matters(self) -> bool:
        """Whether the placement is worth a line: on a GPU, or where it may not fit."""
        return self.device != "cpu" or not self.fits

    def line(self) -> str:
        """The estimate in one line."""
        e = self.estimate
        if e is None:
            return f"memory: no estimate for this class; model.memory={self.mode} on {self.device}"
        parts = f"transformer {readable(e.transformer)}, activations {readable(e.activations)}"
        decoding = f"autoencoder {readable(e.vae)}, decoding {readable(e.decoding)}{' in tiles' if e.tiles else ''}"
        text = f"text encoders {readable(e.text)}{' beside it' if e.encoders_stay else ' before it'}"
        there = "an unknown amount" if self.budget is None else readable(self.budget)
        needed = f"model.memory={self.mode} takes about {readable(e.needs(self.mode))} of {there} on {self.device}"
        warning = "" if self.fits else f"; this may not fit, next to try: {advice(self.mode, self.device)}"
        return f"memory: {parts}, {decoding}, {text}: {needed}{warning}"


def readable(amount: float) -> str:
    """Bytes as text, in GB or MB."""
    return f"{amount / GB:.1f} GB" if amount >= GB / 10 else f"{1000 * amount / GB:.0f} MB"


def expected(cell: Cell, parts: dict[str, Any]) -> Estimate | None:
    """The estimate for an image of a cell."""
    return estimate(cell.model, parts, cell.stages, cell.method.decoded_size(cell.request))


def estimate(
    model: ModelConfig, parts: dict[str, Any], stages: list[Stage], decoded: tuple[int, int] | None = None
) -> Estimate | None:
    """Estimate the memory of a generation through these stages; None for an unknown class.

    `parts` are those of `sega.loading.folder.read_parts`, or the published ones of the model's config. `decoded` is
    the (width, height) of the largest image that goes through the autoencoder; that of the largest stage if None.
    """
    transformer, vae = parts["transformer"], parts["vae"]
    bytes_each = 4 if model["dtype"] == "float32" else 2
    kind, autoencoder = transformer.config.get("_class_name"), vae.config.get("_class_name")
    if kind not in WIDTHS or autoencoder not in CHANNELS:
        return None
    width = transformer.config["num_attention_heads"] * transformer.config["attention_head_dim"]
    pixels = model["geometry"]["token_pixels"]
    tokens = max((stage.size[0] // pixels) * (stage.size[1] // pixels) for stage in stages)
    tokens += model["geometry"]["text_tokens"]
    sides = decoded or max((stage.size for stage in stages), key=math.prod)
    tiles = model["vae_tiling"] and max(sides) > model["vae_tile"]
    pieces = [spans(side, model["vae_tile"], OVERLAP)[0] if tiles else (0, side) for side in sides]
    area = pieces[0][1] * pieces[1][1]
    weights = transformer.parameters * bytes_each * SHARES[model["quantize"]]
    layers = transformer.config["num_layers"] + transformer.config.get("num_single_layers", 0)
    cache = read_cache(model["cache"])
    kept = 0 if cache is None else KEPT[cache.kind] * (1 if model["negative_prompt"] is None else 2)
    text = sum(part.parameters for name, part in parts.items() if name.startswith("text_encoder"))
    return Estimate(
        transformer=weights,
        text=text * bytes_each,
        vae=vae.parameters * bytes_each,
        activations=(WIDTHS[kind] + kept) * tokens * width * bytes_each,
        decoding=(CHANNELS[autoencoder] * _channels(vae.config) * bytes_each) * area,
        block=weights / max(layers, 1),
        encoders_stay=not model["text_cache"],
        tiles=tiles,
    )


def _channels(config: dict[str, Any]) -> int:
    """Channels that an autoencoder brings up to full resolution."""
    if "base_dim" in config:
        return config["base_dim"] * config["dim_mult"][min(1, len(config["dim_mult"]) - 1)]
    channels = config["block_out_channels"]
    return channels[min(1, len(channels) - 1)]


def placement_of(cell: Cell, device: str) -> Placement:
    """The placement of a cell whose weights are here."""
    from sega.loading.folder import read_parts

    found = expected(cell, read_parts(cell.weights.folder))
    return choose(cell.model, found, device, free(device, cell.model["budget_gb"]))


def tile(model: ModelConfig) -> int | None:
    """Return the longest side in px that is decoded in one piece; None: any."""
    return model["vae_tile"] if model["vae_tiling"] else None


def choose(model: ModelConfig, expected: Estimate | None, device: str, budget: float | None) -> Placement:
    """Choose the first mode that fits, or the requested one. Raises RequestError for an impossible mode."""
    wish, quantized = model["memory"], model["quantize"]
    if device == "cpu":
        if wish not in ("auto", "gpu"):
            raise RequestError(f"model.memory={wish} moves weights to a GPU and back, and this runs on a CPU; use auto")
        return Placement("gpu", "gpu", expected, budget, device)
    modes = [mode for mode in MODES[1:] if not quantized or mode in ("gpu", "offload")]
    if wish != "auto" and wish not in modes:
        raise RequestError(f"model.memory={wish} can't hold quantised weights; use gpu or offload with model.quantize")
    known = budget is not None and expected is not None
    fitting = [mode for mode in modes if not known or expected.needs(mode) <= budget]
    mode = wish if wish != "auto" else (fitting or modes[-1:])[0]
    text_mode = "gpu" if not known or expected.text * MARGIN <= budget else "sequential"
    return Placement(mode, text_mode, expected, budget, device)


def advice(mode: str, device: str = "cuda") -> str:
    """Suggest what to try when a mode does not fit."""
    if device == "cpu":
        return "model.dtype=bfloat16, model.vae_tile=1024 or a smaller res"
    after = MODES[MODES.index(mode) + 1 :]
    last = "model.vae_tile=1024, then a smaller res"
    options = [*(f"model.memory={item}" for item in after[:1]), *([] if after else [last])]
    return " or ".join([*options, *(["model.quantize=4bit"] if mode in ("gpu", "offload") else [])])


def free(device: str, budget_gb: float | None) -> float | None:
    """Return the bytes to plan with: `budget_gb` if given, else the free memory, else None."""
    if budget_gb is not None:
        return budget_gb * GB
    if device == "cpu":
        try:
            lines = Path("/proc/meminfo").read_text().splitlines()
        except OSError:
            return None
        return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
    if "torch" in sys.modules:
        import torch

        return float(torch.cuda.mem_get_info(device)[0]) if torch.cuda.is_available() else None
    index = device.partition(":")[2] or "0"
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits", f"--id={index}"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    answer = done.stdout.strip()
    return float(answer) * 2**20 if done.returncode == 0 and answer.isdigit() else None


@contextlib.contextmanager
def explained(placement: Placement, size: tuple[int, int]) -> Iterator[None]:
    """Turn out-of-memory errors into a RequestError that suggests what to try next."""
    import torch

    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator has only its words
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        what, hint = "RAM" if placement.device == "cpu" else "GPU memory", advice(placement.mode, placement.device)
        raise RequestError(
            f"out of {what} at {size[0]}x{size[1]} with model.memory={placement.mode}; next to try: {hint}"
        ) from error
