"""Read the records of runs: images, rows, step records, scores. `frame(store)` returns all scores as a DataFrame."""

from .tidy import frame

__all__ = ["frame"]
