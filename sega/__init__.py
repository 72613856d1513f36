"""SEGA-bench: training-free resolution extrapolation of diffusion transformers."""

__all__ = ["RequestError", "attach", "load_method"]

_HOMES = {"RequestError": "sega.errors", "attach": "sega.attach", "load_method": "sega.method"}


def __getattr__(name: str):
    # Resolved on first use, so that `import sega` costs nothing and never pulls in torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'sega' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # importing sega.attach binds the module under the same name; the function must win
    return value
