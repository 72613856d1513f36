"""What makes the images of a worker: stock pipelines with methods. Tests put something faster in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

from sega.loading.memory import tile
from sega.loading.text_cache import TextCache
from sega.run import provenance
from sega.run.cell import Cell


class Maker:
    """Opens the pipeline of a cell and generates with it."""

    # Of the process, not of the command: a launcher may give one process several cells, which mostly share a pipeline.
    _opened: ClassVar[dict[str, Any]] = {}

    def open(
        self, cell: Cell, device: str, texts: TextCache | None, mode: str, say: Callable[[str], None] | None = None
    ) -> Any:
        """The pipeline of a cell on a device in a mode of placement, ready for its images.

        `texts` are the embeddings of its sentences, where it has no text encoders; `say` is told when it has to be
        loaded.
        """
        from sega.models import adapter_for

        key = json.dumps([str(cell.weights.folder), cell.model, device, mode])
        if key not in self._opened:
            from sega.loading.pipeline import open_pipeline

            self.free()
            if say:
                say(f"loading {cell.weights.folder}")
            self._opened[key] = open_pipeline(cell.model, cell.weights, device, mode)
        adapter_for(self._opened[key]).configure(texts=texts, tile=tile(cell.model))
        return self._opened[key]

    def free(self) -> None:
        """Let go of the pipeline that is open, to make room on the device."""
        self._opened.clear()

    def generate(self, pipe: Any, method: Any, prompt: str, **options: Any) -> Any:
        """One image, as `sega.generate` makes it."""
        from sega.engine.sampling import generate

        return generate(pipe, method, prompt, **options)

    def describe(self, device: str) -> str:
        """The device in words."""
        return provenance.device_name(device)
