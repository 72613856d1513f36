"""Methods, model adapters and metrics that live in other packages.

A package names what it offers as entry points: `sega_bench.methods` (name = "package.module:Class"),
`sega_bench.models` (class name of a transformer = "package.module:Adapter"), `sega_bench.metrics`. What is built in
comes first: a plugin never replaces it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What the code of somebody else raises while it is imported or called for the first time."""


@functools.cache
def entries(group: str) -> dict[str, EntryPoint]:
    """The entry points of `sega_bench.<group>`, by name. Looking takes a while, so ask only when needed."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=f"sega_bench.{group}")}


def load(entry: EntryPoint) -> Any:
    """What an entry point names. Raises RequestError for one that can't be loaded."""
    with blamed(entry):
        return entry.load()


@contextlib.contextmanager
def blamed(entry: EntryPoint) -> Iterator[None]:
    """Run code of another package. What it raises is a RequestError that names the package."""
    try:
        yield
    except BROKEN as error:
        raise broken(entry, _line(error)) from error


def broken(entry: EntryPoint, why: str) -> RequestError:
    """The error of an entry point that is of no use."""
    package, kind = package_of(entry), entry.group.rpartition(".")[2]
    return RequestError(
        f"{kind} of the package {package} ({entry.name} = {entry.value}) can't be used: {why}; "
        f"fix it, or remove it with pip uninstall {package}"
    )


def package_of(entry: EntryPoint) -> str:
    """The name of the package that an entry point belongs to."""
    return entry.dist.name if entry.dist else entry.module


def load_target(target: Any) -> Any:
    """What `module:name` names; modules of the working folder are found too. RequestError for anything else."""
    module, colon, name = str(target).partition(":")
    if not colon or not module or not name:
        raise RequestError(f"method.target={target} must be <module>:<class>, such as my_methods:Mine")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return getattr(import_module(module), name)
    except BROKEN as error:
        raise RequestError(f"method.target={target} can't be loaded: {_line(error)}") from error


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
