"""Errors a person can mend, the hint for a misspelt name, and the error of an image that came to nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

FULL_OR_FORBIDDEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""What an OSError says of a disk that takes no more; a traceback would tell nothing besides."""


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


def check_folder(key: str, name: object) -> None:
    """Refuse the name of a folder that can't be written to or made; makes nothing."""
    folder = Path(str(name)).absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not name or not there.is_dir() or not os.access(there, os.W_OK):
        raise RequestError(f"{key}={name} must name a folder that can be written to")
