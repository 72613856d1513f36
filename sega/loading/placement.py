"""Where the parts of a loaded pipeline live, and the switches that decide how its transformer computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sega.errors import RequestError, near

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, PipelineQuantizationConfig

BITSANDBYTES = ("8bit", "4bit")
QUANTIZE = (*BITSANDBYTES, "fp8")


def quantization(kind: str | None, dtype: torch.dtype, parts: list[str]) -> PipelineQuantizationConfig | None:
    """diffusers' configuration of 8- or 4-bit weights for these parts, through bitsandbytes; None for other kinds.

    4-bit is NF4 with computation in the model's dtype. Raises RequestError without bitsandbytes.
    """
    if kind not in BITSANDBYTES:
        return None
    _need_bitsandbytes(kind)
    from diffusers import PipelineQuantizationConfig

    options: dict[str, Any] = {"load_in_8bit": True}
    if kind == "4bit":
        options = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
    return PipelineQuantizationConfig(f"bitsandbytes_{kind}", options, components_to_quantize=parts)


def quantize_on_cpu(transformer: torch.nn.Module, kind: str, dtype: torch.dtype) -> None:
    """Replace all linear layers by those of bitsandbytes, as `quantization` does on a GPU: diffusers refuses a CPU."""
    _need_bitsandbytes(kind)
    import bitsandbytes.nn as bnb
    from torch import nn

    def replaced(layer: nn.Linear) -> nn.Module:
        sizes, weight = (layer.in_features, layer.out_features, layer.bias is not None), layer.weight.data
        if kind == "8bit":
            new: nn.Module = bnb.Linear8bitLt(*sizes, has_fp16_weights=False)
            new.weight = bnb.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
        else:
            new = bnb.LinearNF4(*sizes, compute_dtype=dtype)
            new.weight = bnb.Params4bit(weight, requires_grad=False, quant_type="nf4")
        new.bias = layer.bias
        return new.to("cpu")  # the move quantises

    for parent in list(transformer.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.Linear:
                setattr(parent, name, replaced(layer))


def _need_bitsandbytes(kind: str) -> None:
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise RequestError(f"model.quantize={kind} needs the package bitsandbytes; install it or use quantize=null")


def store_in_fp8(transformer: torch.nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of the blocks in 8-bit floating point and bring each layer to `dtype` while it runs.

    diffusers' layerwise casting, e4m3 without scales; embeddings, norms and what the class names beside them stay.
    """
    import torch

    transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)


def need_compiler() -> None:
    """Raise RequestError where torch.compile, which writes C++ for a CPU, finds no compiler of it."""
    import os
    import shutil
    import sys

    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(name) is None:
        raise RequestError(
            f"model.compile=true needs a C++ compiler on a CPU, and there is no {name} here; install it, name another "
            "in the environment variable CXX, or leave model.compile out"
        )


def switch(transformer: torch.nn.Module, attention: str | None, compiled: bool) -> None:
    """Choose diffusers' attention backend and compile the repeated blocks. Raises RequestError for what can't run."""
    if attention is not None:
        from diffusers.models.attention_dispatch import AttentionBackendName

        known = [item.value for item in AttentionBackendName]
        if attention not in known:
            raise RequestError(f"model.attention={attention} is unknown{near(attention, known)}")
        if attention.endswith("_hub"):
            raise RequestError(f"model.attention={attention} would fetch code from the hub, which is never run")
        try:
            transformer.set_attention_backend(attention)
        except (ImportError, RuntimeError, ValueError) as error:
            why = str(error).strip().splitlines()[0]
            raise RequestError(f"model.attention={attention} can't be used here: {why}") from error
    if compiled:
        transformer.compile_repeated_blocks()


def place(pipe: DiffusionPipeline, mode: str, device: str) -> None:
    """Put a pipeline on a device: whole ("gpu"), one part at a time ("offload"), one block of a part at a time
    ("group") or one layer at a time ("sequential"). Pixels do not depend on it.
    """
    import torch

    if mode == "gpu":
        pipe.to(device)
    elif mode == "offload":
        pipe.enable_model_cpu_offload(device=device)
    elif mode == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        streams = device.startswith("cuda")  # the next block travels while this one computes
        for name, part in pipe.components.items():
            if name == "transformer":
                part.enable_group_offload(
                    torch.device(device), torch.device("cpu"), "block_level", num_blocks_per_group=1, use_stream=streams
                )
            elif isinstance(part, torch.nn.Module):
                part.to(device)
