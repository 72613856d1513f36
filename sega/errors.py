"""The error a person can mend, the hint for a misspelt name, and the error of an image that came to nothing."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RequestError(ValueError):
    """A request that cannot be met; the message is one line that says what is wrong and how to mend it."""


class FailedImageError(ArithmeticError):
    """An image that came to nothing, such as one of NaN; the message is the reason."""


def near(name: object, known: Iterable[object], n: int = 3) -> str:
    """The tail of an error message about an unknown name.

    Returns `"; did you mean 'yarn'?"` with up to `n` near matches, or `"; known: a, b, c"` when nothing is near,
    or `""` when nothing is known at all.
    """
    names = [str(item) for item in known]
    by_lower = {item.lower(): item for item in names}
    matches = [by_lower[item] for item in get_close_matches(str(name).lower(), by_lower, n=n, cutoff=0.5)]
    if matches:
        return "; did you mean " + " or ".join(f"'{item}'" for item in matches) + "?"
    return "; known: " + ", ".join(names) if names else ""
