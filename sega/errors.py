"""Errors that a user can fix, hints for misspelt names, and the error of a failed image."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

FULL_OR_FORBIDDEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""What an OSError says of a disk that takes no more; a traceback would tell nothing besides."""
IN_THE_WAY = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG}
"""And what it says of a name that can't be, or of a folder where a file belongs."""


class RequestError(ValueError):
    """A request that cannot be met; the message is one line that says what is wrong and how to mend it."""


class FailedImageError(ArithmeticError):
    """A failed image, such as one of NaN; the message is the reason."""


def near(name: object, known: Iterable[object], n: int = 3) -> str:
    """The tail of an error message about an unknown name.

    Returns `"; did you mean 'yarn'?"` with up to `n` near matches, or `"; known: a, b, c"` when nothing is near,
    or `""` when nothing is known at all.
    """
    from difflib import get_close_matches

    names = [str(item) for item in known]
    by_lower = {item.lower(): item for item in names}
    matches = [by_lower[item] for item in get_close_matches(str(name).lower(), by_lower, n=n, cutoff=0.5)]
    if matches:
        return "; did you mean " + " or ".join(f"'{item}'" for item in matches) + "?"
    return "; known: " + ", ".join(names) if names else ""


def check_folder(key: str, name: object) -> None:
    """Refuse the name of a folder that can't be written to or made; leaves nothing behind.

    Whether a folder can be written to is tried with a file without a name: some, such as /proc, only claim that it can.
    """
    import tempfile

    if not isinstance(name, str | os.PathLike):
        raise RequestError(f"{key}={shortened(name)} must name a folder that can be written to")
    folder = Path(name).absolute()
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not name or not there.is_dir() or not os.access(there, os.W_OK):
            raise RequestError(f"{key}={name} must name a folder that can be written to")
        for part in folder.relative_to(there).parts:  # a name that is too long is so at any place
            (there / part).exists()
        with tempfile.TemporaryFile(dir=there):
            pass
    except (OSError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        why = getattr(error, "strerror", None) or error
        raise RequestError(f"{key}={shortened(name)} must name a folder that can be written to ({why})") from error


def check_name(key: str, name: object) -> None:
    """Refuse what can't be the name of one folder: a path, nothing, a hidden or a long one."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", name):
        raise RequestError(f"{key}={shortened(name)} must be a name of letters, digits and . _ + - (at most 64)")


def shortened(value: object) -> str:
    """A value as it may stand in a line of an error."""
    text = "".join(character if character.isprintable() else "?" for character in str(value))
    return text if len(text) <= 120 else f"{text[:80]}... ({len(text)} characters)"


def answer(program: str, action: Callable[[], int]) -> int:
    """Run a command and return its exit status; what a person can mend is told in one line, headed by `program`.

    2 for a wrong request and for output that nobody reads, 1 for a file that can't be written or stands in the way.
    """
    try:
        status = action()
        sys.stdout.flush()
        return status
    except RequestError as error:
        _tell(f"{program}: {error}")
        return 2
    except BrokenPipeError:
        return output_closed(program)
    except OSError as error:
        if error.errno not in FULL_OR_FORBIDDEN | IN_THE_WAY:
            raise
        _tell(f"{program}: {shortened(error.filename or 'a file')}: {error.strerror}; finished files are kept")
        return 2 if error.errno == errno.ENAMETOOLONG else 1


def output_closed(program: str) -> int:
    """Say that nobody reads the output any more, drop what is still to come, and return the exit status."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python says the same again as it ends
    _tell(f"{program}: the reader of the output has closed it; finished files are kept")
    return 2


def _tell(line: str) -> None:
    line = " ".join(line.splitlines())
    line = line if len(line) <= 1000 else f"{line[:700]} ... {line[-200:]}"
    with contextlib.suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)
