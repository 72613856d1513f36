"""The steps of one stage where they are not the scheduler's own: another solver, or a smaller latent first.

The scheduler of the pipeline gives the sigmas and counts the calls. The steps between them are taken here, in float32,
by diffusers' own solvers on the same sigmas.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from sega.formulas import expansion
from sega.methods.legs import Leg, legs_of
from sega.methods.stepping import EULER, HEUN, Stepping


class Solver(Protocol):
    """Takes the steps from one sigma to the next of a list."""

    def step(self, x: Tensor, velocity: Tensor) -> Tensor: ...


class Euler:
    """x + (sigma' - sigma) v."""

    def __init__(self, sigmas: list[float]):
        self.pairs = itertools.pairwise(sigmas)

    def step(self, x: Tensor, velocity: Tensor) -> Tensor:
        sigma, after = next(self.pairs)
        return x + (after - sigma) * velocity


class Stock:
    """A scheduler of diffusers on given sigmas."""

    def __init__(self, scheduler: Any, sigmas: list[float]):
        scheduler.set_timesteps(len(sigmas) - 1)
        scheduler.sigmas = torch.tensor(sigmas)
        scheduler.timesteps = scheduler.sigmas[:-1] * scheduler.config.num_train_timesteps
        scheduler.set_begin_index(0)
        self.scheduler = scheduler

    def step(self, x: Tensor, velocity: Tensor) -> Tensor:
        time = self.scheduler.timesteps[self.scheduler.step_index or 0]
        after: Tensor = self.scheduler.step(velocity, time, x, return_dict=False)[0]
        return after


def build_solver(name: str, leg: Leg) -> Solver:
    """A solver of SOLVERS for the steps of a leg, falling from 1 at most to 0 at least."""
    if name == EULER:
        return Euler(leg.sigmas)
    import diffusers

    if name == HEUN:
        return Stock(diffusers.FlowMatchHeunDiscreteScheduler(), [*leg.calls(name), leg.sigmas[-1]])
    kind = {"dpm++2m": diffusers.DPMSolverMultistepScheduler, "unipc": diffusers.UniPCMultistepScheduler}[name]
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "final_sigmas_type": "zero"}
    first = min(leg.sigmas[0], 1 - 1e-6)  # both take the logarithm of 1 - sigma
    return Stock(kind(**flow), [first, *leg.sigmas[1:]])


@dataclass
class Trajectory:
    """The legs of one stage, from its noise [1, C, 2H, 2W] on."""

    stepping: Stepping
    noise: Tensor
    legs: list[Leg] = field(default_factory=list)
    solver: Solver | None = None
    left: int = 0  # calls of the leg under way

    def begin(self, sigmas: list[float]) -> tuple[Tensor, list[float]]:
        """The first latent and the sigmas of all transformer calls, for a stage with these sigmas and the final 0."""
        rows, columns = self.noise.shape[-2:]
        self.legs = legs_of(self.stepping, (rows, columns), sigmas)
        calls = [sigma for leg in self.legs for sigma in leg.calls(self.stepping.solver)]
        x = self.noise.float()
        if self.legs[0].size != tuple(x.shape[-2:]):
            x = expansion.shrink(x, self.legs[0].size)
        self._start()
        return x, calls

    def step(self, x: Tensor, velocity: Tensor) -> Tensor:
        """The latent after a transformer call that gave a velocity; on a larger grid where a leg ends."""
        assert self.solver is not None  # begun
        x = self.solver.step(x, velocity)
        self.left -= 1
        if self.left or len(self.legs) == 1:
            return x
        ended = self.legs.pop(0)
        noise = self.noise.to(x).float()
        if self.legs[0].size != tuple(noise.shape[-2:]):
            noise = expansion.shrink(noise, self.legs[0].size)
        self._start()
        return expansion.expand(x, noise, ended.sigmas[-1])[0]

    def _start(self) -> None:
        leg = self.legs[0]
        self.solver = build_solver(self.stepping.solver, leg)
        self.left = len(leg.calls(self.stepping.solver))
