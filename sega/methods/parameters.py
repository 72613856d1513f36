"""Parameters of a method, each declared once: default, bounds, and one line that says what it does.

A field made by one of these functions carries a `Parameter`. `Method` checks values against it, and the files of
`conf/method` and the tables of `docs/methods.md` are written from it (`scripts/method_pages.py`).

    kappa: float = number(0.08, low=0, doc="reference magnitude r^kappa")
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sega.errors import RequestError, near


@dataclass(frozen=True)
class Parameter:
    """What a parameter may be. `doc` is one line, without its default."""

    doc: str
    kind: str  # "choice", "number", "count" (a whole number), "numbers" (a list), "flag" or "text"
    choices: tuple[str, ...] = ()  # of a choice; of a number, words it may be instead
    low: float = -math.inf
    high: float = math.inf
    whole: bool = False  # the numbers of a list
    optional: bool = False  # may be None when the method runs: null or none in a file
    empty: bool = False  # a list may have no entry
    later: bool = False  # came when images existed, which its default leaves as they were: see `Method.identity`

    def check(self, owner: str, key: str, value: Any) -> Any:
        """The value in its final form, lists as tuples. Raises RequestError, with `owner` and `key` in it."""
        if self.optional and value in (None, "none"):
            return None
        if self.kind == "choice":
            if value not in self.choices:
                raise RequestError(f"{owner}: {key}={value} is not allowed{near(value, self.choices)}")
        elif self.kind == "flag":
            if not isinstance(value, bool):
                raise RequestError(f"{owner}: {key}={value} must be true or false")
        elif self.kind == "text":
            if not isinstance(value, str):
                raise RequestError(f"{owner}: {key}={value} must be text")
        elif self.kind == "numbers":
            return self._list(owner, key, value)
        elif value not in self.choices and not self._fits(value):
            raise RequestError(f"{owner}: {key}={value} must be {self.allowed()}")
        return value

    def _fits(self, value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        whole = self.kind == "count" or self.whole
        return number and self.low <= value <= self.high and math.isfinite(value) and (not whole or value == int(value))

    def _list(self, owner: str, key: str, value: Any) -> tuple[Any, ...]:
        items = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
        if not all(self._fits(item) for item in items) or not (items or self.empty):
            raise RequestError(f"{owner}: {key}={value} must be {self.allowed()}")
        return tuple(int(item) for item in items) if self.whole else items

    def allowed(self) -> str:
        """What it may be, in words: for messages and tables."""
        if self.kind == "choice":
            words = " | ".join(self.choices)
        elif self.kind == "flag":
            words = "true | false"
        elif self.kind == "text":
            words = "text"
        else:
            whole = "whole " if self.kind == "count" or self.whole else ""
            bounds = "" if math.isinf(self.low) else f" of at least {self.low:g}"
            if not math.isinf(self.high):
                bounds = f" between {self.low:g} and {self.high:g}"
            words = f"a list of {whole}numbers{bounds}" if self.kind == "numbers" else f"a {whole}number{bounds}"
            words += "".join(f" or {word}" for word in (*self.choices, *(("none",) if self.optional else ())))
        return words


def _field(default: Any, parameter: Parameter) -> Any:
    return field(default=default, metadata={"parameter": parameter})


def choice(default: str | None, *values: str, later: bool = False, doc: str) -> Any:
    """One of `values`. A default that is none of them ("auto", None) stands for what `settle` puts in its place."""
    return _field(default, Parameter(doc, "choice", values, later=later))


def number(
    default: float | str | None,
    *words: str,
    low: float = -math.inf,
    high: float = math.inf,
    optional: bool = False,
    later: bool = False,
    doc: str,
) -> Any:
    """A finite number between two bounds, both allowed, or one of `words`."""
    return _field(default, Parameter(doc, "number", words, low, high, optional=optional, later=later))


def count(
    default: int | str | None, *words: str, low: int = 1, optional: bool = False, later: bool = False, doc: str
) -> Any:
    """A whole number, or one of `words`."""
    return _field(default, Parameter(doc, "count", words, low, optional=optional, later=later))


def flag(default: bool | None, *, doc: str) -> Any:
    """True or false."""
    return _field(default, Parameter(doc, "flag"))


def numbers(
    default: tuple[float, ...] | None,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    whole: bool = False,
    empty: bool = False,
    optional: bool = False,
    doc: str,
) -> Any:
    """A list of numbers; a single number is a list of one."""
    return _field(default, Parameter(doc, "numbers", (), low, high, whole, optional, empty))


def text(default: str, *, later: bool = False, doc: str) -> Any:
    """Any text."""
    return _field(default, Parameter(doc, "text", later=later))


def parameters_of(cls: type) -> dict[str, tuple[Any, Parameter]]:
    """Default and declaration of every parameter of a method's class, by name, in the order of the fields."""
    return {
        item.name: (item.default, item.metadata["parameter"]) for item in fields(cls) if "parameter" in item.metadata
    }
