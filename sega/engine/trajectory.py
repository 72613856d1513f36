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
from sega.methods.stepping import EULER, Stepping

SPECTRUM = 203.615097 * 64**-1.915461, 1.915461
"""Power of a clean latent at its highest frequency, and its fall: FLUX at 1024 px (128 cells), from the authors' code.

The small model has 0.10 and 1.87, 0.06 and 1.97, 0.03 and 2.09 at 1x, 2x and 4x (renders of its world); others were not
measured, and the code of SGLang takes FLUX's for them too.
"""


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


def times_of(solver: str, sigmas: list[float]) -> list[float]:
    """The sigmas of the transformer calls between those of a list. Heun calls at both ends of a step, except at 0."""
    if solver != "heun":
        return sigmas[:-1]
    ends = [sigma for pair in itertools.pairwise(sigmas) for sigma in pair]
    return ends if sigmas[-1] else ends[:-1]


def build_solver(name: str, sigmas: list[float]) -> Solver:
    """A solver of SOLVERS for the steps between sigmas, falling from 1 at most to 0 at least."""
    if name == EULER:
        return Euler(sigmas)
    import diffusers

    if name == "heun":
        return Stock(diffusers.FlowMatchHeunDiscreteScheduler(), [*times_of(name, sigmas), sigmas[-1]])
    kind = {"dpm++2m": diffusers.DPMSolverMultistepScheduler, "unipc": diffusers.UniPCMultistepScheduler}[name]
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "final_sigmas_type": "zero"}
    first = min(sigmas[0], 1 - 1e-6)  # both take the logarithm of 1 - sigma
    return Stock(kind(**flow), [first, *sigmas[1:]])


@dataclass
class Leg:
    """Steps on one grid."""

    size: tuple[int, int]  # rows and columns of the latent
    sigmas: list[float]  # of its steps, and where it ends


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
        self.legs = self._legs(sigmas)
        calls = [sigma for leg in self.legs for sigma in times_of(self.stepping.solver, leg.sigmas)]
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
        self.solver = build_solver(self.stepping.solver, leg.sigmas)
        self.left = len(times_of(self.stepping.solver, leg.sigmas))

    def _legs(self, sigmas: list[float]) -> list[Leg]:
        """One leg for each grid, coarse to fine.

        A grid gives way at the first sigma that is no larger than the activation of its highest frequency, and before
        the last step at the latest; that sigma is then raised to what the larger latent has. A grid without a step is
        left out.
        """
        rows, columns = self.noise.shape[-2:]
        rule = self.stepping.progressive
        if rule is None:
            return [Leg((rows, columns), sigmas)]
        legs, start, last = [], 0, len(sigmas) - 2
        entry = sigmas[0]
        for level in range(rule.levels, 0, -1):
            size = _fit(rows, level), _fit(columns, level)
            level_sigma = expansion.activation(expansion.power(0.5**level, *SPECTRUM), rule.delta)
            end = min(expansion.first_below(sigmas, level_sigma), last)
            if end <= start:
                continue
            legs.append(Leg(size, [entry, *sigmas[start + 1 : end + 1]]))
            start, entry = end, sigmas[end]
        legs.append(Leg((rows, columns), [entry, *sigmas[start + 1 :]]))
        for leg, larger in itertools.pairwise(legs):
            larger.sigmas[0] = expansion.aligned(leg.sigmas[-1], expansion.growth(leg.size, larger.size))
        return legs


def _fit(side: int, level: int) -> int:
    """Cells of a side halved `level` times, in whole tokens of two."""
    return 2 * max(1, round(side / 2 ** (level + 1)))
