"""One adapter per architecture. Nothing here imports torch before an adapter is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sega import compat
from sega.errors import RequestError

if TYPE_CHECKING:
    from sega.models.base import Adapter

ADAPTERS = {
    "FluxTransformer2DModel": "sega.models.flux:FluxAdapter",
    "Flux2Transformer2DModel": "sega.models.flux2:Flux2Adapter",
    "QwenImageTransformer2DModel": "sega.models.qwen:QwenAdapter",
    "ZImageTransformer2DModel": "sega.models.zimage:ZImageAdapter",
}

PIPELINES = {
    "FluxPipeline": "flux",
    "Flux2Pipeline": "flux2",
    "Flux2KleinPipeline": "flux2",
    "QwenImagePipeline": "qwen",
    "ZImagePipeline": "zimage",
}
"""Pipelines that can be run, with the family their model's geometry must name."""
GUIDED = {"qwen": 1.0, "zimage": 0.0}
"""Families whose guidance is true classifier-free guidance, with the value up to which there is none."""
TRANSFORMERS = {
    "flux": "FluxTransformer2DModel",
    "flux2": "Flux2Transformer2DModel",
    "qwen": "QwenImageTransformer2DModel",
    "zimage": "ZImageTransformer2DModel",
}


# An adapter holds its pipeline weakly, so an entry goes when the pipeline does.
_adapters: WeakKeyDictionary[Any, Adapter] = WeakKeyDictionary()


def adapter_for(target: Any) -> Adapter:
    """The adapter of a pipeline or a transformer, found by the name of the transformer's class.

    A pipeline has one adapter as long as it lives, so that what `configure` sets is set for all that use the pipeline.
    Raises RequestError for a transformer that has no adapter or is compiled as a whole.
    """
    transformer = getattr(target, "transformer", target)
    check_whole(transformer)
    adapter_class = _class_for(transformer)
    if transformer is target:
        return adapter_class(target)
    adapter = _adapters.get(target)
    if adapter is None or adapter.transformer is not transformer:
        fresh = adapter_class(target)
        if adapter is not None:  # the pipeline was given another transformer
            fresh.configure(texts=adapter.texts, tile=adapter.tile)
        adapter = _adapters[target] = fresh
    return adapter


def check_whole(transformer: Any, compiling: bool = False) -> None:
    """Refuse a transformer that is compiled as a whole, or that somebody is about to compile so."""
    wrapped = compat.is_compiled_wrapper(transformer)
    if not (compiling or wrapped or compat.is_compiled_in_place(transformer)):
        return
    back = "pipe.transformer = pipe.transformer._orig_mod" if wrapped else "a transformer without compile()"
    raise RequestError(
        "a method can't reach into a transformer that is compiled as a whole; compile its blocks instead: "
        f"{back}, then pipe.transformer.compile_repeated_blocks(), or model.compile=true with run.py"
    )


def text_encoder_of(pipe: Any) -> Any:
    """`encode_text` of the adapter of a pipeline that may have no transformer."""
    family = PIPELINES[type(pipe).__name__]
    return _load(TRANSFORMERS[family]).encode_text


def _class_for(transformer: Any) -> type[Adapter]:
    names = [cls.__name__ for cls in type(transformer).__mro__]
    for name in names:
        if name in ADAPTERS:
            return _load(name)
    raise RequestError(f"no adapter for {names[0]}; methods can be attached to {', '.join(ADAPTERS)}")


def _load(transformer: str) -> type[Adapter]:
    module, attribute = ADAPTERS[transformer].split(":")
    return getattr(import_module(module), attribute)
