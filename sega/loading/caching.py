"""Step caching: leave out most blocks of a transformer in steps that change little, by diffusers' own hooks.

`model.cache=<kind>`, or `<kind>:<value>` with the one number that sets speed against fidelity. docs/speed.md says what
each kind does and what it costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError, near

if TYPE_CHECKING:
    import torch

    from sega.loading.schema import ModelConfig
    from sega.methods.base import Method
    from sega.methods.types import Stage

FAMILIES = ("flux", "qwen")
"""Whose pipelines name the branches of guidance, and whose blocks all return image and text apart: hooks need both.

The pipeline of FLUX.2 names none, and its single blocks return one tensor; Z-Image takes no cache.
"""
DEFAULTS: dict[str, float] = {"first_block": 0.1, "taylorseer": 2, "sea": 0.25}
MEANING = {
    "first_block": "the relative change of the first block's residual below which the others are left out",
    "taylorseer": "every how many steps the blocks run, at least 2",
    "sea": "the summed relative change of the filtered latent up to which the blocks are left out",
}
TWICE = "runs the transformer twice in a step, to measure"
UNSEEN = "record=attention averages over all layers, and a cache leaves some out"


@dataclass(frozen=True)
class Cache:
    """A kind of cache and its number."""

    kind: str
    value: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.value:g}"


def read_cache(text: Any) -> Cache | None:
    """The cache that `model.cache` names; None for null. Raises RequestError for anything else."""
    if text is None:
        return None
    kind, colon, number = str(text).partition(":")
    if kind not in DEFAULTS:
        raise RequestError(f"model.cache={text} is unknown{near(kind, DEFAULTS)}")
    try:
        value = float(number) if colon else DEFAULTS[kind]
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf or (kind == "taylorseer" and (value < 2 or value % 1)):
        number = f"a {'whole ' if kind == 'taylorseer' else ''}number, such as {kind}:{DEFAULTS[kind]:g}"
        raise RequestError(f"model.cache={text}: after the colon comes {number}: {MEANING[kind]}")
    return Cache(kind, value)


def check(model: ModelConfig, method: Method, stages: list[Stage], record: list[str] | str) -> None:
    """Refuse what can't work, before anything is loaded."""
    cache = read_cache(model["cache"])
    if cache is None:
        return
    family = model["geometry"]["family"]
    if family not in FAMILIES:
        raise RequestError(
            f"model.cache={cache}: diffusers' caches don't fit {family}, only {' and '.join(FAMILIES)}; use "
            "model.cache=null"
        )
    for key in ("parallel", "compile"):
        if model[key]:
            raise RequestError(f"model.{key}={model[key]} was not made for model.cache={cache}; leave one of them out")
    if any(stage.windows for stage in stages):
        raise RequestError(f"model.cache={cache}: {moving(method)}, or use model.cache=null")
    if not method.staged and _measures(method):
        raise RequestError(f"model.cache={cache}: {method.name} {TWICE}; use model.cache=null")
    if "attention" in record:
        raise RequestError(f"model.cache={cache}: {UNSEEN}; record it with model.cache=null")


def moving(method: Method) -> str:
    """Why shifted windows and a cache exclude each other, and what to set where the method lets it be chosen."""
    why = f"{method.name} shifts windows, so the number of tokens changes from step to step"
    return f"{why}; set method.shift_windows=false" if "shift_windows" in method.parameters() else why


def _measures(method: Method) -> bool:
    from sega.methods.base import Attention

    attention = method.attention(0, None)
    return attention is not None and type(attention).probes is not Attention.probes


def enable(transformer: Any, cache: Cache, dtype: torch.dtype) -> None:
    """Put the cache on a transformer; `transformer.disable_cache()` takes it off."""
    from diffusers import hooks

    if cache.kind == "first_block":
        config = hooks.FirstBlockCacheConfig(threshold=cache.value)
    elif cache.kind == "taylorseer":
        # Forecasts of the last projection alone: those of every block would take twice its output, for each of them.
        config = hooks.TaylorSeerCacheConfig(
            cache_interval=int(cache.value), use_lite_mode=True, taylor_factors_dtype=dtype
        )
    else:
        config = hooks.SeaCacheConfig(threshold=cache.value, raw_vision_callback=_latents)
    transformer.enable_cache(config)


def _latents(transformer: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The latents of a call as SeaCache reads them: [C, 1, 2H, 2W] of each sample."""
    from sega.models import adapter_for

    adapter = adapter_for(transformer)
    call = adapter.bind(args, kwargs)
    grid = adapter.grid(call)
    return [latent[:, None] for latent in adapter.unpack(adapter.latent(call, grid), grid)]
