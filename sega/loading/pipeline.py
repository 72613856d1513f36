"""From weights on disk to the stock pipeline on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError, near
from sega.loading.folder import read_json
from sega.loading.weights import Weights, find_weights

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from sega.loading.schema import ModelConfig


def load_pipeline(model: str | Path = "flux", device: str = "auto", **changes: Any) -> DiffusionPipeline:
    """The stock diffusers pipeline of a model, ready to use: `load_pipeline("tiny")`, `load_pipeline("flux")`.

    `model` is a name of `conf/model` or the folder of a checkpoint. `changes` are keys of the model's config, such as
    `path="/models/FLUX.1-dev"`, `dtype="float32"`, `memory="offload"` or `download=True`. The text encoders are loaded
    too (run.py keeps embeddings on disk instead). Without height and width it makes images of the training size.
    Raises RequestError where the weights are not on this machine.
    """
    from sega.loading.devices import device_for
    from sega.loading.known import model_config

    config = model_config(model)
    for key in changes:
        if key not in config:
            raise RequestError(f"load_pipeline: unknown key {key!r}{near(key, config)}")
    config |= {"text_cache": None} | changes
    device = device_for(device)
    mode = "gpu" if config["memory"] == "auto" or device == "cpu" else config["memory"]
    pipe = open_pipeline(config, find_weights(config), device, mode)
    pipe.default_sample_size = config["native"] // pipe.vae_scale_factor
    return pipe


def open_pipeline(model: ModelConfig, weights: Weights, device: str, mode: str = "gpu") -> DiffusionPipeline:
    """The stock pipeline, placed as `mode` says, with the rotary base of the model's geometry.

    With a `text_cache` it comes without text encoders: `load_text_encoders` gives them, before and apart.
    """
    import torch

    from sega.loading.caching import enable, read_cache
    from sega.loading.parallel import SPLIT, split, spread
    from sega.loading.placement import (
        BITSANDBYTES,
        need_compiler,
        place,
        quantization,
        quantize_on_cpu,
        store_in_fp8,
        switch,
    )
    from sega.methods.geometry import build_geometry
    from sega.methods.stepping import read_stepping
    from sega.models import adapter_for

    dtype = getattr(torch, model["dtype"])
    kind = model["quantize"]
    if model["compile"] and device == "cpu":
        need_compiler()
    options = {"quantization_config": None if device == "cpu" else quantization(kind, dtype, ["transformer"])}
    if model["text_cache"]:
        options |= {part: None for part in text_parts(weights.folder)}
    pipe = _load(weights.folder, dtype, device, options)
    set_theta(pipe.transformer, build_geometry(model["geometry"]).theta)
    if kind == "fp8":
        store_in_fp8(pipe.transformer, dtype)
    elif kind in BITSANDBYTES and device == "cpu":
        quantize_on_cpu(pipe.transformer, kind, dtype)
    switch(pipe.transformer, model["attention"], model["compile"])
    adapter_for(pipe).stepping = read_stepping(model)
    cache = read_cache(model["cache"])
    if cache is not None:
        enable(pipe.transformer, cache, dtype)
    if model["parallel"] == "blocks":
        spread(pipe, device)
    else:
        place(pipe, mode, device)
    if model["parallel"] in SPLIT:
        split(pipe.transformer, model["parallel"], device)
    return pipe


def load_text_encoders(model: ModelConfig, weights: Weights, device: str, mode: str = "gpu") -> DiffusionPipeline:
    """The pipeline with its text encoders alone."""
    import torch

    from sega.loading.placement import place

    pipe = _load(weights.folder, getattr(torch, model["dtype"]), device, {"transformer": None, "vae": None})
    place(pipe, mode, device)
    return pipe


def text_parts(folder: Path) -> list[str]:
    """The names of the parts that only read text."""
    return [part for part in read_json(folder / "model_index.json") if part.startswith(("text_encoder", "tokenizer"))]


def _load(folder: Path, dtype: torch.dtype, device: str, options: dict[str, Any]) -> DiffusionPipeline:
    import logging

    import torch

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it names kernels that nothing here uses
    import diffusers
    from diffusers.utils import logging as diffusers_logging
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RequestError(f"device={device}: this machine has no usable CUDA device; use device=cpu")
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    kind = getattr(diffusers, read_json(folder / "model_index.json")["_class_name"])
    try:
        pipe = kind.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise RequestError(f"{folder} can't be loaded: {str(error).splitlines()[0]}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


def set_theta(transformer: torch.nn.Module, theta: float) -> None:
    """Give a FLUX transformer the stock positions of another rotary base; the stock class fixes 10000."""
    from diffusers.models.transformers.transformer_flux import FluxPosEmbed

    if isinstance(getattr(transformer, "pos_embed", None), FluxPosEmbed) and transformer.pos_embed.theta != theta:
        transformer.pos_embed = FluxPosEmbed(theta=theta, axes_dim=transformer.pos_embed.axes_dim)
