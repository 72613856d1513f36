"""Flow corrections, shifted windows and stored predictions: what happens around `scheduler.step`.

Where a stage corrects the flow or shifts windows, the latent lives here, in float32 and at its own size; the
pipeline's loop only carries a copy of the requested size along. Elsewhere the pipeline's own latent is left alone.
"""

from __future__ import annotations

import functools

from torch import Tensor

from sega.errors import RequestError
from sega.methods.types import Point, align


class Steering:
    """The steps of one stage."""

    def __init__(self, attachment, run):
        self.attachment, self.adapter, self.run = attachment, attachment.adapter, run
        self.stage, self.index = attachment.stage, attachment.index
        self.correct = attachment.method.flow(self.index, run)
        self.windows = self.stage.windows
        if self.windows and not self.adapter.windows:
            raise RequestError(
                "the pipeline of this model cuts the velocity to the size asked for, so borders of tokens can't be "
                "shifted; set shift_windows=false"
            )
        self.own = self.correct is not None or self.windows
        # Read by later stages, or by those of other methods that share this one.
        self.keep = run.keep and (self.stage.plain or self.index + 1 < len(run.stages))
        self.x: Tensor | None = None
        self.done = 0
        self.shifted = -1  # the step whose window shift has been made; two branches share it

    def inputs(self, call: dict) -> dict:
        """The transformer's inputs with the latent of this stage in place of the pipeline's copy."""
        if not self.own:
            return call
        if self.x is None:
            self.x = self.run.start.to(call["hidden_states"].device)
        if self.windows and self.shifted != self.done:
            self.shifted = self.done
            border = 1 if self.done % 2 == 0 else -1
            self.x = align(self.x, tuple(side + 2 * border for side in self.x.shape[-2:]))
        return self.adapter.put_latent(call, self.x)

    def wrap(self, original):
        """A `scheduler.step` that corrects the velocity before the scheduler's own Euler step."""
        scheduler = self.attachment.scheduler

        @functools.wraps(original)
        def step(*args, **kwargs):
            result = advance(*args, **kwargs)
            if self.run.on_step is not None:
                self.run.on_step(self.index, self.done)
            return result

        def advance(model_output, timestep, sample, *args, return_dict: bool = True, **kwargs):
            sigma, after = (float(value) for value in scheduler.sigmas[self.done : self.done + 2])
            steps, number = len(scheduler.sigmas) - 1, self.done
            self.done += 1
            if not self.own:
                if self.keep:
                    clean = sample.float() - sigma * model_output.float()
                    self.run.predictions[sigma] = self.adapter.from_scheduler(clean, self.attachment.steps[-1].grid)
                return original(model_output, timestep, sample, *args, return_dict=return_dict, **kwargs)
            velocity = self.adapter.from_scheduler(model_output.float(), (self.x.shape[-2] // 2, self.x.shape[-1] // 2))
            stored = self.run.predictions.get(sigma)
            point = Point(self.x, velocity, sigma, after, number, steps, self.index, stored)
            if self.keep:
                self.run.predictions[sigma] = point.clean
            if self.correct is not None:
                velocity = self.correct(point)
            result = original(
                self.adapter.to_scheduler(velocity),
                timestep,
                self.adapter.to_scheduler(self.x),
                *args,
                return_dict=True,
                **kwargs,
            )
            self.x = self.adapter.from_scheduler(result.prev_sample, (self.x.shape[-2] // 2, self.x.shape[-1] // 2))
            result.prev_sample = self.adapter.to_scheduler(self.latent()).to(sample.dtype)
            return result if return_dict else (result.prev_sample,)

        return step

    def latent(self) -> Tensor:
        """The latent at the size of the stage."""
        return align(self.x, self.run.start.shape[-2:])
