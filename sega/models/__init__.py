"""One adapter per architecture. Nothing here imports torch before an adapter is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sega import compat
from sega.errors import RequestError
from sega.methods.families import Family, families, family_of_pipeline, family_of_transformer, pipelines

if TYPE_CHECKING:
    from sega.models.base import Adapter

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
            fresh.stepping = adapter.stepping
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


def text_adapter(pipe: Any) -> type[Adapter]:
    """The adapter class of a pipeline that may have no transformer, for `encode_text` and `cut_text`."""
    family = family_of_pipeline(type(pipe).__name__)
    if family is None:
        raise RequestError(f"{type(pipe).__name__} can't be run; {', '.join(pipelines())} can")
    return _load(family)


def _class_for(transformer: Any) -> type[Adapter]:
    names = [cls.__name__ for cls in type(transformer).__mro__]
    family = family_of_transformer(*names)
    if family is None:
        known = ", ".join(family.transformer for family in families())
        raise RequestError(f"no adapter for {names[0]}; methods can be attached to {known}")
    return _load(family)


def _load(family: Family) -> type[Adapter]:
    module, attribute = family.adapter.split(":")
    return getattr(import_module(module), attribute)
