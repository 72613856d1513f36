"""One adapter per architecture, and loading."""

from __future__ import annotations

from sega.errors import RequestError

ADAPTERS = {
    "FluxTransformer2DModel": "sega.models.flux:FluxAdapter",
    "QwenImageTransformer2DModel": "sega.models.qwen:QwenAdapter",
}

PIPELINES = {"FluxPipeline": "flux", "QwenImagePipeline": "qwen"}
"""Pipelines that can be run, with the family their model's geometry must name."""
TRANSFORMERS = {"flux": "FluxTransformer2DModel", "qwen": "QwenImageTransformer2DModel"}


def adapter_for(target):
    """The adapter of a pipeline or a transformer, found by the name of the transformer's class."""
    transformer = getattr(target, "transformer", target)
    names = [cls.__name__ for cls in type(transformer).__mro__]
    for name in names:
        if name in ADAPTERS:
            return _adapter(name)(target)
    raise RequestError(f"no adapter for {names[0]}; methods can be attached to {', '.join(ADAPTERS)}")


def text_encoder_of(pipe):
    """`encode_text` of the adapter of a pipeline that may have no transformer."""
    family = PIPELINES[type(pipe).__name__]
    return _adapter(TRANSFORMERS[family]).encode_text


def _adapter(transformer: str):
    from importlib import import_module

    module, attribute = ADAPTERS[transformer].split(":")
    return getattr(import_module(module), attribute)
