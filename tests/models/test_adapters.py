"""Adapters are siblings under one interface, and a pipeline has one of them as long as it lives."""

import gc
import inspect
import weakref
from importlib import import_module

import pytest
from small import build

from sega.methods.families import FAMILIES
from sega.models import adapter_for
from sega.models.base import Adapter
from sega.models.flux import FluxAdapter

CLASSES = [
    getattr(import_module(module), name) for module, name in (family.adapter.split(":") for family in FAMILIES.values())
]


@pytest.mark.parametrize("adapter", CLASSES)
def test_an_adapter_writes_the_whole_interface_and_inherits_from_no_other(adapter):
    assert not inspect.isabstract(adapter) and adapter.family
    assert not any(issubclass(adapter, other) for other in CLASSES if other is not adapter)


@pytest.mark.parametrize("adapter", CLASSES)
def test_public_methods_belong_to_the_interface_and_take_its_arguments(adapter):
    extra = {"put_grid", "latent_channels", "normalise", "denormalise", "decode_tile", "encode_tile"}  # of the mixins
    for name, function in inspect.getmembers(adapter, inspect.isfunction):
        if name.startswith("_") or name in extra:
            continue
        ours, theirs = (list(inspect.signature(f).parameters) for f in (function, getattr(Adapter, name)))
        assert ours == theirs, name


def test_what_a_new_adapter_still_lacks_is_said():
    class Half(Adapter):
        family = "half"

        def attention_layers(self):
            return []

    with pytest.raises(TypeError, match="encode_text"):
        Half(object())


def test_a_pipeline_has_one_adapter_that_keeps_its_settings(tiny_pipe):
    texts = {}.get
    adapter = adapter_for(tiny_pipe)
    assert adapter_for(tiny_pipe) is adapter and adapter.pipe is tiny_pipe
    before = set(vars(tiny_pipe))
    try:
        adapter_for(tiny_pipe).configure(texts=texts, tile=1024)
        assert (adapter_for(tiny_pipe).texts, adapter_for(tiny_pipe).tile) == (texts, 1024)
        assert set(vars(tiny_pipe)) == before
    finally:
        adapter.configure()
    assert (adapter.texts, adapter.tile) == (None, None)
    bare = adapter_for(tiny_pipe.transformer)
    assert bare.pipe is None and bare is not adapter_for(tiny_pipe.transformer)


def test_another_transformer_has_another_adapter_with_the_same_settings():
    pipe, other = build(double=1, single=0), build(double=0, single=1).transformer
    first = adapter_for(pipe)
    first.configure(tile=1024)
    pipe.transformer = other
    second = adapter_for(pipe)
    assert second is not first and second.transformer is other and second.tile == 1024


def test_an_adapter_does_not_keep_its_pipeline():
    pipe = build(double=1, single=0)
    adapter_for(pipe).configure(tile=1024)
    pipe_ref, transformer = weakref.ref(pipe), weakref.ref(pipe.transformer)
    del pipe
    gc.collect()
    assert pipe_ref() is None and transformer() is None


def test_a_class_of_a_transformer_is_found_by_its_bases(tiny_pipe):
    class Own(type(tiny_pipe.transformer)):
        pass

    assert isinstance(adapter_for(object.__new__(Own)), FluxAdapter)
