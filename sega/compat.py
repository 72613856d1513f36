"""Private names of torch and diffusers, and of kinds of CPUs: every one that this package reads or sets.

A release may rename any of them. They stand here and nowhere else, and `tests/engine/test_compat.py` fails where an
installed release lacks one. Nothing here imports torch or diffusers before it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CALL = "_call_impl"
"""What `module(...)` runs in torch, with the hooks of the module; `forward` is the part that others replace."""
_RESOLVE = "_resolve_parallel_config"


def cpu_lacks_bfloat16() -> bool:
    """Whether this CPU has no instructions for bfloat16, by the name that torch gives its kind.

    On one without AVX-512 a product took 77 times as long as in float32.
    """
    import torch

    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "NO AVX")


def is_compiled_wrapper(module: torch.nn.Module) -> bool:
    """Whether the module is what `torch.compile(module)` returns."""
    return hasattr(module, "_orig_mod")


def is_compiled_in_place(module: torch.nn.Module) -> bool:
    """Whether `module.compile()` was called."""
    return getattr(module, "_compiled_call_impl", None) is not None


def execution_device(pipe: Any) -> torch.device:
    """The device on which a diffusers pipeline computes; with offloading, not the one where its weights lie."""
    return pipe._execution_device


def attention_backend(processor: Any) -> Any:
    """The attention backend that was set for a diffusers attention processor; None for the default."""
    return processor._attention_backend


def can_split_sequence(transformer: torch.nn.Module) -> bool:
    """Whether diffusers has a plan to split the sequence of this transformer over processes."""
    return getattr(transformer, "_cp_plan", None) is not None


def set_parallel_resolver(transformer: torch.nn.Module, resolve: Callable[[Any], Any]) -> None:
    """Let `resolve(config)` make the parallel config in `enable_parallelism`."""
    setattr(transformer, _RESOLVE, resolve)


def unset_parallel_resolver(transformer: torch.nn.Module) -> None:
    """Undo `set_parallel_resolver`. Harmless where it was not called."""
    vars(transformer).pop(_RESOLVE, None)


def set_parallel_config(transformer: torch.nn.Module, config: Any) -> None:
    """What a resolver has to leave on the transformer."""
    transformer._parallel_config = config


def context_parallel_config(transformer: torch.nn.Module) -> Any:
    """How the sequence of a transformer is split over processes; None where it is not."""
    return getattr(getattr(transformer, "_parallel_config", None), "context_parallel_config", None)


def gather(x: Tensor, transformer: torch.nn.Module) -> Tensor:
    """All tokens [B, S, C] where `x` holds the share of this process."""
    from diffusers.hooks.context_parallel import PartitionAnythingSharder

    return PartitionAnythingSharder.unshard_anything(x, 1, context_parallel_config(transformer)._flattened_mesh)


def hooks_of(module: torch.nn.Module) -> list[Any]:
    """The hooks of diffusers on a module, in the order they were registered."""
    registry = getattr(module, "_diffusers_hook", None)
    return [registry.hooks[name] for name in registry._hook_order] if registry else []


def forget_cached(transformer: torch.nn.Module) -> None:
    """Let the cache of a transformer begin anew: nothing of an earlier generation stays."""
    transformer._reset_stateful_cache()


def tensor_version(x: Tensor) -> int:
    """How often a tensor was changed in place; 0 for one of inference mode, where nobody counts."""
    return 0 if x.is_inference() else x._version


def undivided_classes(transformer: torch.nn.Module) -> list[str]:
    """Names of the classes whose modules have to stay on one device."""
    return list(transformer._no_split_modules or [])
