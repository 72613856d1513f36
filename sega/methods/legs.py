"""The grids and sigmas of the transformer calls of a stage, as the keys of a model ask for them. No torch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from sega.formulas import expansion
from sega.methods.stepping import HEUN, Stepping

SPECTRUM = 203.615097 * 64**-1.915461, 1.915461
"""Power of a clean latent at its highest frequency, and its fall: FLUX at 1024 px (128 cells), from the authors' code.

The small model has 0.10 and 1.87, 0.06 and 1.97, 0.03 and 2.09 at 1x, 2x and 4x (renders of its world); others were not
measured, and the code of SGLang takes FLUX's for them too.
"""


@dataclass
class Leg:
    """Steps on one grid."""

    size: tuple[int, int]  # rows and columns of the latent
    sigmas: list[float]  # of its steps, and where it ends

    def calls(self, solver: str) -> list[float]:
        """The sigmas of its transformer calls. Heun calls at both ends of a step, except at 0."""
        if solver != HEUN:
            return self.sigmas[:-1]
        ends = [sigma for pair in itertools.pairwise(self.sigmas) for sigma in pair]
        return ends if self.sigmas[-1] else ends[:-1]


def legs_of(stepping: Stepping, size: tuple[int, int], sigmas: list[float]) -> list[Leg]:
    """One leg for each grid, coarse to fine, for a latent of `size` (rows, columns) and sigmas that end at 0.

    A grid gives way at the first sigma that is no larger than the activation of its highest frequency, and before the
    last step at the latest; that sigma is then raised to what the larger latent has. A grid without a step is left out.
    """
    rule = stepping.progressive
    if rule is None:
        return [Leg(size, sigmas)]
    legs, start, last = [], 0, len(sigmas) - 2
    entry = sigmas[0]
    for level in range(rule.levels, 0, -1):
        smaller = _fit(size[0], level), _fit(size[1], level)
        level_sigma = expansion.activation(expansion.power(0.5**level, *SPECTRUM), rule.delta)
        end = min(expansion.first_below(sigmas, level_sigma), last)
        if end <= start:
            continue
        legs.append(Leg(smaller, [entry, *sigmas[start + 1 : end + 1]]))
        start, entry = end, sigmas[end]
    legs.append(Leg(size, [entry, *sigmas[start + 1 :]]))
    for leg, larger in itertools.pairwise(legs):
        larger.sigmas[0] = expansion.aligned(leg.sigmas[-1], expansion.growth(leg.size, larger.size))
    return legs


def _fit(side: int, level: int) -> int:
    """Cells of a side halved `level` times, in whole tokens of two."""
    return 2 * max(1, round(side / (2 << level)))
