"""Some steps of a pass of the stock pipeline, timed, and the others without their blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Enough(Exception):
    """The steps that were wanted are done."""


class AnyTime(dict[float, Any]):
    """Predictions of an earlier stage, the same at every time."""

    def __init__(self, latent: Any):
        super().__init__()
        self.latent = latent

    def get(self, sigma: float, default: Any = None) -> Any:
        return self.latent


class Steps:
    """The callback of a pass: times its steps, and ends it after the last one that is wanted."""

    def __init__(self, wanted: tuple[int, ...], device: Any):
        from sega.engine.stopwatch import Stopwatch

        self.wanted, self.index, self.new = wanted, 0, lambda: Stopwatch(device)
        self.watches = [self.new()]

    def __call__(self, pipe: Any, index: int, time: Any, values: dict[str, Any]) -> dict[str, Any]:
        self.watches[-1].stop()
        if index >= self.wanted[-1]:
            raise Enough
        self.index = index + 1
        self.watches.append(self.new())
        return values

    def seconds(self) -> list[float]:
        """Of each step, all that the pipeline does in it."""
        return [watch.seconds() for watch in self.watches]


@contextmanager
def only(transformer: Any, steps: Steps) -> Iterator[None]:
    """In steps that are not wanted, embed the latent, make the rotary tables, and leave out the blocks."""
    import torch

    forward = transformer.forward

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        if steps.index in steps.wanted:
            return forward(*args, **kwargs)
        latent = kwargs["hidden_states"]
        transformer.x_embedder(latent)
        transformer.pos_embed(torch.cat([kwargs["txt_ids"], kwargs["img_ids"]]))
        return (torch.zeros_like(latent),)

    transformer.forward = stand_in
    try:
        yield
    finally:
        del transformer.forward
