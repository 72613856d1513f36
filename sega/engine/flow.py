"""Correct the flow, shift token borders and store predictions around each `scheduler.step`.

Where a stage corrects the flow or shifts windows, the latent lives here, in float32 and at its own size; the
pipeline's loop only carries a copy of the requested size along. So it does where steps are taken by a Trajectory.
Elsewhere the pipeline's own latent is left alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from sega import compat
from sega.engine.trajectory import Trajectory
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
        trajectory: Trajectory | None = None,
    ):
        """`start` [1, C, 2H, 2W] is what stage `index` starts from, `correct` the flow part of the method.

        `predictions` holds the clean predictions of earlier stages by sigma, and with `keep` gets those of this one.
        `on_step(index, taken)` is called after each step, `trajectory` takes the steps in place of the scheduler.
        Raises RequestError where windows can't be shifted.
        """
        if stage.windows and not adapter.windows:
            raise RequestError(
                "the pipeline of this model cuts the velocity to the requested size, so borders of tokens can't be "
                "shifted; set shift_windows=false"
            )
        self.adapter, self.stage, self.index, self.start = adapter, stage, index, start
        self.correct, self.predictions, self.keep, self.on_step = correct, predictions, keep, on_step
        self.trajectory = trajectory
        self.own = correct is not None or stage.windows or trajectory is not None
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

    def wrap_times(self, scheduler: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        """A `scheduler.set_timesteps` that lists the calls of the trajectory after the sigmas that `original` sets."""
        trajectory = self.trajectory
        if trajectory is None:
            return original

        @functools.wraps(original)
        def set_timesteps(*args: Any, **kwargs: Any) -> None:
            original(*args, **kwargs)
            self.x, calls = trajectory.begin(scheduler.sigmas.tolist())
            scheduler.sigmas = scheduler.sigmas.new_tensor([*calls, 0.0])
            scheduler.timesteps = scheduler.timesteps.new_tensor(calls) * scheduler.config.num_train_timesteps
            scheduler.num_inference_steps = len(calls)

        return set_timesteps

    def wrap(self, scheduler: Any) -> Callable[..., Any]:
        """A `scheduler.step` that corrects the velocity before the scheduler's own Euler step."""
        original = scheduler.step
        follow = None if self.trajectory is None else self._follow(self.trajectory, original)

        @functools.wraps(original)
        def step(*args: Any, **kwargs: Any) -> Any:
            result = (follow or advance)(*args, **kwargs)
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

    def _follow(self, trajectory: Trajectory, original: Callable[..., Any]) -> Callable[..., Any]:
        """A `scheduler.step` that leaves the step to the trajectory."""

        def follow(model_output, timestep, sample, *args, return_dict: bool = True, **kwargs):
            self.done += 1
            before, transformer = self.x, self.adapter.transformer
            self.x = trajectory.step(before, self.adapter.from_scheduler(model_output.float(), _grid(before)))
            if self.x.shape != before.shape and getattr(transformer, "is_cache_enabled", False):
                compat.forget_cached(transformer)
            # The scheduler counts the step; where it leads to is not used.
            packed = self.adapter.to_scheduler(before)
            result = original(model_output, timestep, packed, *args, return_dict=True, **kwargs)
            result.prev_sample = self.adapter.to_scheduler(self.latent()).to(sample.dtype)
            return result if return_dict else (result.prev_sample,)

        return follow

    @property
    def tokens(self) -> int:
        """Image tokens at the size of the stage."""
        height, width = _grid(self.start)
        return height * width

    def latent(self) -> Tensor:
        """The latent at the size of the stage."""
        height, width = self.start.shape[-2:]
        return align(self.x, (height, width))


def _grid(latent: Tensor) -> tuple[int, int]:
    return latent.shape[-2] // 2, latent.shape[-1] // 2
