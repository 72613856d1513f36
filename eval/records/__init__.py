"""What lies beside a run: images, rows, step records, scores. `frame(store)` gives all scores as a DataFrame."""

from .tidy import frame

__all__ = ["frame"]
