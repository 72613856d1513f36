"""One adapter per architecture, and loading."""

from __future__ import annotations

from sega.errors import RequestError

ADAPTERS = {
    "FluxTransformer2DModel": "sega.models.flux:FluxAdapter",
    "QwenImageTransformer2DModel": "sega.models.qwen:QwenAdapter",
}


def adapter_for(target):
    """The adapter of a pipeline or a transformer, found by the name of the transformer's class."""
    from importlib import import_module

    transformer = getattr(target, "transformer", target)
    names = [cls.__name__ for cls in type(transformer).__mro__]
    for name in names:
        if name in ADAPTERS:
            module, attribute = ADAPTERS[name].split(":")
            return getattr(import_module(module), attribute)(target)
    raise RequestError(f"no adapter for {names[0]}; methods can be attached to {', '.join(ADAPTERS)}")
