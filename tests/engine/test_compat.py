"""The private names of torch and diffusers in `sega.compat` exist in the installed releases."""

import pytest
import torch

from sega import compat


def test_names_of_torch():
    layer = torch.nn.Linear(1, 1)
    assert callable(getattr(torch.nn.Module, compat.CALL))
    assert not compat.is_compiled_wrapper(layer) and not compat.is_compiled_in_place(layer)
    assert compat.is_compiled_wrapper(torch.compile(layer))
    layer.compile()
    assert compat.is_compiled_in_place(layer)


def test_names_of_a_pipeline_and_its_parts(tiny_pipe):
    transformer = tiny_pipe.transformer
    assert compat.execution_device(tiny_pipe) == torch.device("cpu")
    assert all(compat.attention_backend(p) is None for p in transformer.attn_processors.values())
    transformer.set_attention_backend("native")
    try:
        assert all(compat.attention_backend(p) == "native" for p in transformer.attn_processors.values())
    finally:
        transformer.reset_attention_backend()
    assert "FluxTransformerBlock" in compat.undivided_classes(transformer)


def test_names_of_a_split_sequence(tiny_pipe):
    from diffusers import ContextParallelConfig, ModelMixin, ParallelConfig
    from diffusers.hooks.context_parallel import PartitionAnythingSharder

    assert compat.can_split_sequence(tiny_pipe.transformer) and not compat.can_split_sequence(tiny_pipe.vae)
    assert compat.context_parallel_config(tiny_pipe.transformer) is None
    assert callable(PartitionAnythingSharder.unshard_anything)
    assert hasattr(ContextParallelConfig(ulysses_degree=2), "_flattened_mesh")

    class Model(ModelMixin):
        pass

    model, config = Model(), ContextParallelConfig(ulysses_degree=2)
    assert callable(model._resolve_parallel_config)  # by this name `enable_parallelism` asks for it
    compat.set_parallel_resolver(model, lambda config: "resolved")
    assert model._resolve_parallel_config(None) == "resolved"
    compat.unset_parallel_resolver(model)
    assert not vars(model).get("_resolve_parallel_config")
    compat.set_parallel_config(model, ParallelConfig(context_parallel_config=config))
    assert compat.context_parallel_config(model) is config


def test_hooks_of_diffusers_come_in_their_order():
    from diffusers.hooks import HookRegistry, ModelHook

    layer, hooks = torch.nn.Linear(1, 1), [ModelHook(), ModelHook()]
    assert compat.hooks_of(layer) == []
    registry = HookRegistry.check_if_exists_or_initialize(layer)
    for name, hook in zip("ba", hooks, strict=True):
        registry.register_hook(hook, name)
    assert compat.hooks_of(layer) == hooks


@pytest.mark.parametrize("room", ["engine", "models", "loading", "methods"])
def test_private_names_stand_in_one_place(room):
    """Nothing else reads an attribute of another object whose name begins with one underscore."""
    import ast
    from pathlib import Path

    found = []
    for path in Path(compat.__file__).parent.joinpath(room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            private = isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
            own = (
                private
                and isinstance(node.value, ast.Name | ast.Call)
                and ast.unparse(node.value) in ("self", "super()")
            )
            if private and not own:
                found.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
    assert found == []
