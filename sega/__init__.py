"""SEGA-bench: training-free resolution extrapolation of diffusion transformers."""

import sys
from importlib import import_module
from types import ModuleType

__all__ = ["RequestError", "attach", "generate", "load_method", "load_pipeline"]

_HOMES = {
    "RequestError": "sega.errors",
    "attach": "sega.engine.attachment",
    "generate": "sega.engine.sampling",
    "load_method": "sega.loading.methods",
    "load_pipeline": "sega.loading.pipeline",
}


def __getattr__(name: str):
    # Resolved on first use, so that `import sega` costs nothing and never pulls in torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'sega' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # Importing the module sega.attach would otherwise put it where the function of that name belongs.
        if not (name == "attach" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
