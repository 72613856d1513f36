"""Options of the commands that read scored runs, and the error messages for wrong ones."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sega.errors import RequestError, answer, check_folder, near
from sega.home import as_typed, command_line

from .protocols import protocols
from .records.rows import Row, load_rows
from .records.runs import forget_warnings, warn

SELECTION = """  store    results/runs     folder of runs, scored by python -m eval
  cache    results/cache    folder where python -m eval stores rendered references
  model, method, eval       use only these runs (several: commas between them), only this protocol"""
KEYS = {"store": "results/runs", "cache": "results/cache", "model": None, "method": None, "eval": None}


def command(words: list[str], text: Callable[[], str], run: Callable[[list[str]], int]) -> int:
    """Run a command line and return the exit status. Prints `text()` for --help, and one line for a wrong request."""
    forget_warnings()
    if any(word in ("-h", "--help", "help") for word in words):
        return answer("error", lambda: print(as_typed(text())) or 0)
    return answer("error", lambda: run(words))


def parse(words: Iterable[str], known: dict[str, Any]) -> dict[str, Any]:
    """Return the options by name, with defaults. An unknown option raises RequestError."""
    options, rest = split_words(words, known)
    if rest:
        key = rest[0].partition("=")[0]
        raise RequestError(f"unknown option {key}{near(key, known)}")
    if options.get("out") is not None:
        check_folder("out", options["out"])
    if options.get("eval") and options["eval"] not in protocols():
        raise RequestError(f"unknown protocol eval={options['eval']}{near(options['eval'], protocols())}")
    return options


def whole_number(options: dict[str, Any], key: str, least: int = 1) -> int:
    """Return an option as a whole number. A value below `least` raises RequestError."""
    if not re.fullmatch("[0-9]{1,9}", str(options[key])) or int(options[key]) < least:
        raise RequestError(f"{key}={options[key]} must be a whole number of at least {least}")
    return int(options[key])


def fractions(options: dict[str, Any], key: str, names: str) -> tuple[float, ...]:
    """Return an option as numbers between 0 and 1, separated by commas, one for each of `names`."""
    count = names.count(",") + 1
    try:
        found = tuple(float(part) for part in str(options[key]).strip("[]()").split(","))
    except ValueError:
        found = ()
    if len(found) != count:
        raise RequestError(f"{key}={options[key]} must be {names} such as {key}={','.join(['0.5'] * count)}")
    if not all(0 <= value <= 1 for value in found):
        raise RequestError(f"{key}={options[key]} must contain fractions between 0 and 1")
    return found


def scored(options: dict[str, Any]) -> list[Row]:
    """Return the rows that the options select. Runs without scores are listed on stderr."""
    from .votes.summary import add_column  # needs numpy

    rows, unscored = load_rows(
        Path(options["store"]), Path(options["cache"]), options["model"], options["method"], options["eval"]
    )
    for run in unscored:
        print(f"not scored yet: {run.name}; run {command_line('eval')}", file=sys.stderr)
    chosen = any(options[key] for key in ("model", "method", "eval"))  # then votes on other runs are no surprise
    add_column(rows, Path(options["store"]), (lambda line: None) if chosen else warn)
    return rows


def check_size(size: str | None) -> None:
    """Raise RequestError if `size` is not a size of any model."""
    from sega.methods.sizes import parse_size

    if size is not None:
        parse_size(size, 1024, 16, "size")


def is_size(wanted: str | None, model: str, size: str) -> bool:
    """Return whether a size of the store, `WxH`, is the wanted one: None (any), `N`, `WxH`, `2x` of a known model."""
    from sega.methods.geometry import load_geometry
    from sega.methods.sizes import is_multiple, parse_size

    if wanted is None or wanted == size:
        return True
    native = token = 1
    if is_multiple(wanted):
        try:
            geometry = load_geometry(model)
        except RequestError:  # images from elsewhere have no training size
            return False
        native, token = geometry.train_tokens * geometry.token_pixels, geometry.token_pixels
    return "x".join(map(str, parse_size(wanted, native, token, "size"))) == size


def split_words(words: Iterable[str], known: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Split command-line words into the options of `known`, with defaults, and the other words.

    Words without `=` raise RequestError.
    """
    found, rest = dict(known), []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise RequestError(f"{word!r} must have the form key=value; --help lists the options")
        if key in known:
            found[key] = value
        else:
            rest.append(word)
    return found, rest


def usable_device(device: str) -> str:
    """Return the device, with `auto` resolved. Raises RequestError if torch cannot use it."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.split(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        raise RequestError(f"unknown device={device}{near(device, ('auto', 'cpu', 'cuda', 'mps'))}")
    if (kind == "cuda" and not torch.cuda.is_available()) or (kind == "mps" and not torch.backends.mps.is_available()):
        raise RequestError(f"device={device} is not available here; use device=cpu")
    return device


def existing(path: str | None, what: str) -> Path | None:
    """Return the path of a file or folder, or None if none is given. A missing one raises RequestError."""
    if path in (None, "", "null"):
        return None
    if not Path(path).exists():
        raise RequestError(f"no {what} at {path}")
    return Path(path)
