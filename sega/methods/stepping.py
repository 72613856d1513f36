"""How the steps of a stage are taken: solver, smaller latents first, windows late, fewer steps of the base.

Four keys of a model, each one word of a command line; docs/speed.md says what each does and what it costs. None changes
what a method is: it is asked for its positions at the grid and the sigma of every call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sega.errors import RequestError, near
from sega.methods.base import Method
from sega.methods.types import Stage

EULER, HEUN = "euler", "heun"
SOLVERS = (EULER, HEUN, "dpm++2m", "unipc")
LEVELS = 3
"""Most halvings of the latent; the paper has two."""
LATE_SIGMA = 0.5
"""Below which attention is windowed where the key does not say."""
KEYS = ("solver", "progressive", "late_attention", "base_steps")


@dataclass(frozen=True)
class Progressive:
    """Steps on a smaller latent, until what it lacks becomes signal to within `delta`; `levels` halvings."""

    delta: float
    levels: int = 1

    def __str__(self) -> str:
        return f"{self.delta:g}:{self.levels}"


@dataclass(frozen=True)
class Late:
    """Attention of the steps below `sigma`: "window" has windows of `value` training sides, "pruned" no more pairs of
    queries and keys than the share `value`."""

    kind: str
    value: float
    sigma: float = LATE_SIGMA

    def __str__(self) -> str:
        return f"{self.kind}:{self.value:g}:{self.sigma:g}"

    def pattern(self, method: Method) -> Method:
        """The method whose attention applies late."""
        from sega.methods.registry import build_method

        geometry = method.geometry
        if self.kind == "window":
            side = max(1, round(self.value * geometry.train_tokens))
            return build_method({"name": "window", "side": side, "halo": max(1, side // 8)}, geometry)
        return build_method({"name": "area", "switch": 1.0, "budget": self.value}, geometry)


@dataclass(frozen=True)
class Stepping:
    """The four keys, read; the default is the pipeline as it is."""

    solver: str = EULER
    progressive: Progressive | None = None
    late_attention: Late | None = None
    base_steps: float | None = None  # times those of the base stage

    def identity(self) -> dict[str, str]:
        """What is set, as its key would spell it in full; fewer steps of the base stand in the stages."""
        solver = None if self.solver == EULER else self.solver
        found = (("solver", solver), ("progressive", self.progressive), ("late_attention", self.late_attention))
        return {key: str(value) for key, value in found if value is not None}

    @property
    def own_steps(self) -> bool:
        """Whether steps are not those of the scheduler."""
        return self.solver != EULER or self.progressive is not None

    @property
    def partial(self) -> bool:
        """Whether some calls take fewer operations than a whole one."""
        return self.progressive is not None or self.late_attention is not None

    def calls(self, steps: int) -> int:
        """Transformer calls of so many steps. Heun's last one ends at sigma 0, where it needs no second call."""
        return 2 * steps - 1 if self.solver == HEUN else steps

    def stages(self, method: Method, stages: list[Stage]) -> list[Stage]:
        """The stages of an image of a method, with the base at its number of steps."""
        if self.base_steps is None:
            return stages
        base = replace(stages[0], steps=max(1, round(self.base_steps * stages[0].steps)))
        return [base, *stages[1:]]

    def check(self, method: Method) -> None:
        """Raise RequestError where a method can't have what is set."""
        if self.base_steps is not None:
            if not method.staged:
                raise RequestError(f"model.base_steps: {method.name} has one stage and no base; use steps")
            if method.tied:
                raise RequestError(
                    f"model.base_steps: the stages of {method.name} follow the base step by step; use "
                    "method.base_steps, which sets the steps of all"
                )
        for key, value in self.identity().items():
            if method.staged:
                raise RequestError(f"model.{key}={value} is for methods of one stage, and {method.name} has several")
            if key == "late_attention" and method.attention(0, None) is not None:
                raise RequestError(f"model.{key}={value}: {method.name} has an attention of its own")


PLAIN = Stepping()


def read_stepping(model: Mapping[str, Any]) -> Stepping:
    """The keys of a `model` block. Raises RequestError for what names nothing."""
    solver = EULER if model["solver"] is None else model["solver"]
    if solver not in SOLVERS:
        raise RequestError(f"model.solver={solver} is unknown{near(str(solver), SOLVERS)}")
    return Stepping(
        solver,
        _progressive(model["progressive"]),
        _late(model["late_attention"]),
        _base_steps(model["base_steps"]),
    )


def _progressive(text: Any) -> Progressive | None:
    if text is None:
        return None
    delta, levels = _numbers(str(text), 2, (None, 1))
    if not 0 < delta < 1 or levels not in range(1, LEVELS + 1):
        raise RequestError(
            f"model.progressive={text} must be a number between 0 and 1, such as 0.05, and after a colon how often the "
            f"latent is halved, 1 to {LEVELS}"
        )
    return Progressive(delta, int(levels))


def _late(text: Any) -> Late | None:
    if text is None:
        return None
    kind, _, rest = str(text).partition(":")
    known = {"window": 1.0, "pruned": 0.5}
    if kind not in known:
        raise RequestError(f"model.late_attention={text} is unknown{near(kind, known)}")
    value, sigma = _numbers(rest, 2, (known[kind], LATE_SIGMA))
    if not 0 < value <= (math.inf if kind == "window" else 1) or not 0 < sigma <= 1:
        what = "side in training sides" if kind == "window" else "share of the pairs, at most 1"
        raise RequestError(
            f"model.late_attention={text} must be {kind}:<{what}>:<sigma up to 1>, such as "
            f"{kind}:{known[kind]:g}:{LATE_SIGMA:g}"
        )
    return Late(kind, value, sigma)


def _base_steps(text: Any) -> float | None:
    if text is None:
        return None
    share = _numbers(str(text).removesuffix("x"), 1, (None,))[0] if str(text).endswith("x") else math.nan
    if not 0 < share <= 4:
        raise RequestError(f"model.base_steps={text} must be a multiple of those of the method, such as 0.5x")
    return share


def _numbers(text: str, count: int, defaults: tuple[float | None, ...]) -> tuple[float, ...]:
    """`a:b` as numbers, with defaults for those left out; not a number where it is none."""
    words = [*(text.split(":") if text else []), *[None] * count]
    found = []
    for word, default in zip(words[:count], defaults, strict=True):
        try:
            found.append(float(word) if word is not None else math.nan if default is None else default)
        except ValueError:
            found.append(math.nan)
    return tuple(found) if len(words) <= 2 * count else (math.nan,) * count
