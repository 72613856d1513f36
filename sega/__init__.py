"""SEGA-bench: training-free resolution extrapolation of diffusion transformers."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sega.engine.attachment import attach
    from sega.engine.recorder import Observation
    from sega.engine.sampling import generate
    from sega.errors import RequestError
    from sega.loading.methods import load_method
    from sega.loading.pipeline import load_pipeline
    from sega.methods.base import Method
    from sega.methods.types import Axis, Rope, Step

__all__ = [
    "Axis",
    "Method",
    "Observation",
    "RequestError",
    "Rope",
    "Step",
    "attach",
    "generate",
    "load_method",
    "load_pipeline",
]

_HOMES = {
    "Axis": "sega.methods.types",
    "Method": "sega.methods.base",
    "Observation": "sega.engine.recorder",
    "RequestError": "sega.errors",
    "Rope": "sega.methods.types",
    "Step": "sega.methods.types",
    "attach": "sega.engine.attachment",
    "generate": "sega.engine.sampling",
    "load_method": "sega.loading.methods",
    "load_pipeline": "sega.loading.pipeline",
}


def __getattr__(name: str) -> object:
    # Resolved on first use, so that `import sega` costs nothing and never pulls in torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'sega' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
