"""One image on several devices, through diffusers and accelerate.

`ulysses` and `ring` split the sequence of tokens over the processes of torchrun (diffusers' context parallelism):
every process runs the same pipeline on the same noise, and the first one keeps the store. `blocks` spreads the blocks
of the transformer over the GPUs of one process, which computes on one of them at a time: memory is shared, not time.
"""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sega import compat
from sega.errors import RequestError, near
from sega.home import CLONE

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from sega.loading.schema import ModelConfig
    from sega.methods.base import Method
    from sega.store.bases import Base, BaseFolder, BaseStage

KINDS = ("ring", "ulysses", "blocks")
SPLIT = KINDS[:2]
START = f"torchrun --nproc-per-node=<GPUs> {'run.py' if CLONE else '-m sega.command run'} ..."
RING = ("_native_cudnn", "_native_flash", "flash", "sage")
"""Attention backends that give the normaliser of their rows, by which a ring joins its parts."""


def check(model: ModelConfig, method: Method) -> None:
    """Refuse what can't work, before anything is loaded. `method` is that of the request."""
    kind = model["parallel"]
    if kind is not None and kind not in KINDS:
        raise RequestError(f"model.parallel={kind} is unknown{near(kind, KINDS)}")
    if kind is not None and model["memory"] not in ("auto", "gpu"):
        raise RequestError(f"model.memory={model['memory']} was not made for model.parallel={kind}; use memory=gpu")
    if kind not in SPLIT:
        if size() > 1:
            raise RequestError("several processes work on one image only with model.parallel=ulysses or ring")
        return
    if size() < 2:
        raise RequestError(f"model.parallel={kind} needs at least 2 processes: {START}")
    if kind == "ring" and model["attention"] not in RING:
        raise RequestError(
            f"model.parallel=ring needs a backend that can join parts: model.attention={' or '.join(RING[:2])}, on a "
            "GPU; or model.parallel=ulysses"
        )
    for key in ("quantize", "compile"):
        if model[key]:
            raise RequestError(f"model.{key}={model[key]} was not made for model.parallel={kind}; leave it out")
    if not method.staged and method.attention(0, None) is not None:
        raise RequestError(refusal(method.name))


def refusal(name: str) -> str:
    return (
        f"{name} changes attention, which it would do to a part of the sequence only; use model.parallel=blocks, or "
        "switch off what it does to attention"
    )


def rank() -> int:
    """Rank of this process under torchrun; 0 without it."""
    return int(os.environ.get("RANK", 0))


def size() -> int:
    """Number of processes under torchrun; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


def own_device(wish: str) -> str:
    """The device of this process: with GPUs, that of its number on this machine."""
    import torch

    if wish == "cpu" or (wish == "auto" and not torch.cuda.is_available()):
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}"


def meet(device: str) -> None:
    """Join the processes of torchrun; once."""
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "cpu:gloo")
    atexit.register(dist.destroy_process_group)


def split(transformer: torch.nn.Module, kind: str, device: str) -> None:
    """Split the sequence over all processes. Lengths and heads need not be multiples of their number."""
    from diffusers import ContextParallelConfig

    if not compat.can_split_sequence(transformer):
        name = type(transformer).__name__
        raise RequestError(f"diffusers has no plan to split the sequence of {name}; use model.parallel=blocks")
    config = ContextParallelConfig(**{f"{kind}_degree": size(), f"{kind}_anything": True})
    if device == "cpu":
        # Its own resolver takes the process number modulo the number of accelerators, of which there are none.
        compat.set_parallel_resolver(transformer, functools.partial(_resolve_on_cpu, transformer))
    try:
        transformer.enable_parallelism(config=config)
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise RequestError(f"model.parallel={kind} can't be used here: {str(error).splitlines()[0]}") from error
    finally:
        compat.unset_parallel_resolver(transformer)


def _resolve_on_cpu(transformer, config):
    import torch
    from diffusers import ParallelConfig
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", config.mesh_shape, mesh_dim_names=config.mesh_dim_names)
    parallel = ParallelConfig(context_parallel_config=config)
    parallel.setup(rank(), size(), torch.device("cpu"), mesh=mesh)
    compat.set_parallel_config(transformer, parallel)
    return parallel


def is_split(transformer: torch.nn.Module) -> bool:
    """Whether a transformer works on a part of the sequence only."""
    return compat.context_parallel_config(transformer) is not None


def gather_tokens(x: torch.Tensor, transformer: torch.nn.Module, length: int) -> torch.Tensor:
    """Tokens [B, S, C] of all processes where `x` holds this one's share of `length`."""
    if x.shape[1] == length or not is_split(transformer):
        return x
    return compat.gather(x, transformer)


def as_split(table: Any, module: torch.nn.Module) -> Any:
    """A rotary table cut as hooks on the stock module, whose place ours takes, would cut its own."""
    for hook in compat.hooks_of(module):
        table = hook.post_forward(module, table)
    return table


def spread(pipe: DiffusionPipeline, device: str) -> None:
    """Put a pipeline on a device, and the blocks of its transformer on all GPUs of this process, evenly."""
    from accelerate import dispatch_model

    transformer, pipe.transformer = pipe.transformer, None
    pipe.to(device)
    pipe.transformer = transformer
    devices = {"": device} if device == "cpu" else device_map(transformer)
    dispatch_model(transformer, devices, force_hooks=True)


def device_map(transformer: torch.nn.Module, limits: dict[Any, int] | None = None) -> dict[str, Any]:
    """Which module goes where; a block is never cut. `limits` are bytes for each device, by default what is free."""
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    kept = compat.undivided_classes(transformer)
    room = get_balanced_memory(transformer, limits, no_split_module_classes=kept)
    devices = infer_auto_device_map(transformer, room, no_split_module_classes=kept)
    if {"cpu", "disk"} & set(devices.values()):
        raise RequestError("the transformer does not fit on the GPUs together; use model.memory=offload or quantize")
    return devices


def _broadcast(value: Any) -> Any:
    """What the first process gives, in all of them."""
    import torch
    import torch.distributed as dist

    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def tell(job: Any) -> None:
    """Tell the other processes, where there are any, what to work on; None: there is no more. By the first process."""
    if size() > 1:
        _broadcast(job)


def jobs() -> Iterator[Any]:
    """What the first process tells, for the others."""
    while (job := _broadcast(None)) is not None:
        yield job


class Together:
    """Shared bases of which every process knows what the first one finds, so that all run the same stages."""

    def __init__(self, bases: BaseFolder | None = None):
        self.bases = bases  # of the first process

    @contextmanager
    def claim(self, stage: BaseStage, prompt: str, seed: int) -> Iterator[None]:
        if self.bases is None:
            yield
            return
        with self.bases.claim(stage, prompt, seed):
            yield

    def load(self, stage: BaseStage, prompt: str, seed: int) -> Base | None:
        return _broadcast(self.bases.load(stage, prompt, seed) if self.bases is not None else None)

    def save(self, stage: BaseStage, prompt: str, seed: int, base: Base) -> None:
        if self.bases is not None:
            self.bases.save(stage, prompt, seed, base)

    def settle(self) -> None:
        if self.bases is not None:
            self.bases.settle()
