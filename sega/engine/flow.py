"""Correct the flow, shift token borders and store predictions around each `scheduler.step`.

Where a stage corrects the flow or shifts windows, the latent lives here, in float32 and at its own size; the
pipeline's loop only carries a copy of the requested size along. Elsewhere the pipeline's own latent is left alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from sega.errors import RequestError
from sega.methods.types import Point, Stage, align
from sega.models.base import Adapter


class Steering:
    """Runs the steps of one stage."""

    def __init__(
        self,
        adapter: Adapter,
        stage: Stage,
        index: int,
        start: Tensor,
        correct: Callable[[Point], Tensor] | None,
        predictions: dict[float, Tensor],
        keep: bool,
        on_step: Callable[[int, int], None] | None,
    ):
        """`start` [1, C, 2H, 2W] is what stage `index` starts from, `correct` the flow part of the method.

        `predictions` holds the clean predictions of earlier stages by sigma, and with `keep` gets those of this one.
        `on_step(index, taken)` is called after each step. Raises RequestError where windows can't be shifted.
        """
        if stage.windows and not adapter.windows:
            raise RequestError(
                "the pipeline of this model cuts the velocity to the requested size, so borders of tokens can't be "
                "shifted; set shift_windows=false"
            )
        self.adapter, self.stage, self.index, self.start = adapter, stage, index, start
        self.correct, self.predictions, self.keep, self.on_step = correct, predictions, keep, on_step
        self.own = correct is not None or stage.windows
        self.x = start  # the latent, where it is our own
        self.done = 0
        self.sigmas: list[float] = []  # of the scheduler, read once
        self.shifted = -1  # the step whose window shift has been made; two branches share it

    def inputs(self, call: dict[str, Any]) -> dict[str, Any]:
        """The transformer's inputs with the latent of this stage in place of the pipeline's copy."""
        if not self.own:
            return call
        self.x = self.x.to(call["hidden_states"].device)
        if self.stage.windows and self.shifted != self.done:
            self.shifted = self.done
            border = 1 if self.done % 2 == 0 else -1
            height, width = self.x.shape[-2:]
            self.x = align(self.x, (height + 2 * border, width + 2 * border))
        return self.adapter.put_latent(call, self.x)

    def wrap(self, scheduler: Any) -> Callable[..., Any]:
        """A `scheduler.step` that corrects the velocity before the scheduler's own Euler step."""
        original = scheduler.step

        @functools.wraps(original)
        def step(*args: Any, **kwargs: Any) -> Any:
            result = advance(*args, **kwargs)
            if self.on_step is not None:
                self.on_step(self.index, self.done)
            return result

        def advance(model_output, timestep, sample, *args, return_dict: bool = True, **kwargs):
            if self.done == 0:
                self.sigmas = scheduler.sigmas.tolist()
            sigma, after = self.sigmas[self.done : self.done + 2]
            steps, number = len(self.sigmas) - 1, self.done
            self.done += 1
            if not self.own:
                if self.keep:
                    clean = sample.float() - sigma * model_output.float()
                    self.predictions[sigma] = self.adapter.from_scheduler(clean, _grid(self.start))
                return original(model_output, timestep, sample, *args, return_dict=return_dict, **kwargs)
            grid = _grid(self.x)
            velocity = self.adapter.from_scheduler(model_output.float(), grid)
            stored = self.predictions.get(sigma)
            point = Point(self.x, velocity, sigma, after, number, steps, self.index, stored)
            if self.keep:
                self.predictions[sigma] = point.clean
            if self.correct is not None:
                velocity = self.correct(point)
            velocity, x = self.adapter.to_scheduler(velocity), self.adapter.to_scheduler(self.x)
            result = original(velocity, timestep, x, *args, return_dict=True, **kwargs)
            self.x = self.adapter.from_scheduler(result.prev_sample, grid)
            result.prev_sample = self.adapter.to_scheduler(self.latent()).to(sample.dtype)
            return result if return_dict else (result.prev_sample,)

        return step

    def latent(self) -> Tensor:
        """The latent at the size of the stage."""
        height, width = self.start.shape[-2:]
        return align(self.x, (height, width))


def _grid(latent: Tensor) -> tuple[int, int]:
    return latent.shape[-2] // 2, latent.shape[-1] // 2
