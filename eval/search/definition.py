"""The definition of a search: fixed settings, space, starting points, objective. `eval/search/read.py` reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = str | int | float | bool | None
"""A value of a setting. Lists are written as run.py reads them, such as "[2,4]"."""


@dataclass(frozen=True)
class Dimension:
    """A searched setting: its values, and the values of dimensions before it with which it is used."""

    name: str  # in the journal and in `when`
    key: str  # of run.py
    choices: tuple[Value, ...] = ()  # if empty, numbers from low to high
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    log: bool = False
    step: float | None = None
    when: dict[str, tuple[Value, ...]] = field(default_factory=dict)

    def is_used(self, values: Mapping[str, Value]) -> bool:
        """Return whether the setting is used. `values` are those of the dimensions before it, by name."""
        return all(
            name in values and any(is_same(values[name], value) for value in allowed)
            for name, allowed in self.when.items()
        )

    def contains(self, value: Any) -> bool:
        """Return whether the value can be drawn."""
        if self.choices:
            return any(is_same(value, choice) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-9) and (not self.whole or value == int(value))

    def cast(self, value: Any) -> Value:
        """Return a value that `contains` accepts as the dimension has it."""
        if self.choices:
            return next(choice for choice in self.choices if is_same(value, choice))
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Objective:
    """What is sought. `directions`: metric -> higher, lower or zero."""

    protocol: dict[str, Any]
    directions: dict[str, str]
    cost: bool  # whether the operations of an image are a second objective


@dataclass(frozen=True)
class Prune:
    """After how many prompts a trial may be stopped, and the share of starting points that must beat it there."""

    after: tuple[int, ...] = ()
    beaten: float = 1.0


@dataclass(frozen=True)
class Definition:
    """A checked search."""

    name: str
    fixed: dict[str, Value]  # setting of run.py -> value
    space: tuple[Dimension, ...]
    start: dict[str, dict[str, Value]]  # label -> settings
    objective: Objective
    prune: Prune
    startup: int  # trials before the sampler's model counts
    seed: int | None  # of the sampler
    trials: int  # of all workers together
    meaning: dict[str, Any]  # all that decides what a recorded rank means, as written

    def words(self, settings: Mapping[str, Value]) -> list[str]:
        """Return the words of run.py for settings, with the fixed ones."""
        return [word(key, value) for key, value in {**self.fixed, **settings}.items()]


def word(key: str, value: Value) -> str:
    """Return a setting as run.py reads it."""
    if value is None or isinstance(value, bool):
        return f"{key}={'null' if value is None else str(value).lower()}"
    return f"{key}={value}"


def is_same(one: Any, other: Any) -> bool:
    """Return whether two values mean the same setting: 1.0 is 1, but 1 is not true."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other
