"""The frequencies of `mix`: ratios and clock, the kinds, and the mixture of two of them.

s is the ratio of an axis to the training side, at least 1. Formulas are those of `sega.formulas.rope`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sega.methods.types import Rope

if TYPE_CHECKING:
    from torch import Tensor

    from ..mix import Mix

BY_RATIO = ("pi", "ntk", "ntk_linear", "yarn", "yarn_llm")
"""Kinds of frequencies that follow a ratio to the training side; the others follow rules of a method."""
Pair = tuple[float, float]
"""A number for height and one for width."""


def ratios(name: str, grid: tuple[int, int], train_tokens: int) -> Pair:
    """s of both axes: each its "own", that of the "longer" side, or the root of the ratio of areas ("area")."""
    if name == "area":
        return (max(1.0, math.sqrt(grid[0] * grid[1]) / train_tokens),) * 2
    height, width = (max(1.0, side / train_tokens) for side in grid)
    return (height, width) if name == "own" else (max(height, width),) * 2


def stretches(method: Mix, grid: tuple[int, int]) -> tuple[Pair, Pair]:
    """s of both axes where positions are interpolated, and s where the base is changed."""
    train, split = method.geometry.train_tokens, method.ratio == "split"
    first = ratios("own" if split else method.ratio, grid, train)
    return first, ratios("longer", grid, train) if split else first


def clock(method: Mix, scale: float, sigma: float, start: float = 1.0) -> float:
    """c of an axis, in 0..1. `start` is the time below which a power clock falls."""
    from sega.formulas import rope

    if method.clock == "power":
        time = 1 - sigma / 1000 if method.time == "as_run" else sigma
        return min(time / start, 1.0) ** method.exponent
    centre, rate = (None if value == "auto" else float(value) for value in (method.centre, method.rate))
    if method.clock == "sigmoid":
        return rope.sigmoid_clock(scale, sigma, centre, rate)
    if method.clock == "switch":
        return float(sigma > (1 / scale if centre is None else centre))
    return 1.0


def mixture(method: Mix, grid: tuple[int, int], sigma: float) -> list[Tensor]:
    """Frequencies [K] of height and width: first^w second^(1 - w)."""
    found, interpolated = [], stretches(method, grid)[0]
    for axis, side in enumerate(grid):
        first = kind(method, method.frequencies, axis, grid, sigma)
        longest = side == max(grid)
        if method.mixes and method.mixed in ("both", "longer" if longest else "shorter"):
            second = kind(method, method.second, axis, grid, sigma)
            time = clock(method, interpolated[axis], sigma) if method.clock_on == "share" else 1.0
            share = time if method.share is None else method.share * time
            # Equal ones stay what they are to the last bit: an axis that neither kind changes is stock.
            first = first if first.equal(second) else first**share * second ** (1 - share)
        found.append(first)
    return found


def kind(method: Mix, name: str, axis: int, grid: tuple[int, int], sigma: float) -> Tensor:
    """Frequencies [K] of one kind on one axis, 0 height, 1 width."""
    from sega.formulas import rope

    if name == "dominant":
        return _of(method.dominant.positions(grid), axis)
    if name.startswith("ntk_sega"):
        return method.sega_ntk(name).axis_frequencies(grid, sigma)[axis]
    dim, theta = method.geometry.axes[1 + axis], method.geometry.theta
    scale, change = (pair[axis] for pair in stretches(method, grid))
    if name == "base" or scale == change == 1:
        return rope.base_frequencies(dim, theta)
    kappa = clock(method, scale, sigma) * (1.0 if method.strength is None else method.strength)
    if method.clock_on == "ratio":
        scale, change = (max(1.0, value * kappa) if value > 1 else value for value in (scale, change))
    if name == "pi":
        return rope.pi(dim, theta, scale)
    if name == "ntk":
        return rope.ntk(dim, theta, change)
    if name == "ntk_linear":
        return rope.base_frequencies(dim, theta * change)
    if name == "yarn_llm":
        return rope.yarn_llm(dim, theta, scale, method.geometry.train_tokens)
    return _yarn(method, dim, scale, change, kappa)


def _yarn(method: Mix, dim: int, scale: float, change: float, kappa: float) -> Tensor:
    """YaRN in its image form, whose turn counts and NTK part may follow kappa."""
    from sega.formulas import rope

    theta, train = method.geometry.theta, method.geometry.train_tokens
    follows = method.clock_on in ("ntk_term", "both")
    near = rope.base_frequencies(dim, theta * rope.ntk_factor(change, dim) ** (kappa if follows else 1.0))
    if method.clock_on not in ("turns", "both"):
        return rope.yarn_image(dim, theta, scale, train, near=near)
    if method.rule == "product":
        return rope.yarn_image(dim, theta, scale, train, turns=kappa, near=near)
    inner = kappa * max(1.0, math.log2(scale)) if method.rule == "sigma" else kappa
    return rope.yarn_image(dim, theta, scale, train, powers=(inner, kappa), near=near)


def _of(rope: Rope, axis: int) -> Tensor:
    return (rope.height, rope.width)[axis].frequencies
