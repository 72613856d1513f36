"""Names of methods in tables and figures, and their order there."""

from __future__ import annotations

import re
from typing import Any

from sega.errors import RequestError

from .runs import Run


def method_label(run: Run) -> str:
    """Return the label of a run: `sega`, or `sega (amplitude=0)` if a parameter is not the default."""
    from sega.loading.methods import load_method

    method = run.identity.get("method", {})
    try:
        defaults = load_method(run.method, run.model).parameters()
    except RequestError:  # a method or model of another version of the project
        defaults = {}
    return changed(run.method, method, defaults)


def changed(name: str, values: dict[str, Any], defaults: dict[str, Any]) -> str:
    """Return a name with the values that are not the default, `sega (amplitude=0)`. Unknown keys are left out."""
    words = [
        f"{key}={short(value)}" for key, value in values.items() if key in defaults and not _same(value, defaults[key])
    ]
    return f"{name} ({', '.join(words)})" if words else name


def method_place(method: str) -> int:
    """Return the index of a method in the order of declaration. Unknown methods are last."""
    from sega.methods.registry import METHODS

    names = list(METHODS)
    return names.index(method) if method in names else len(names)


def short(value: Any) -> str:
    """Return the value of a parameter as it is written in a label; of a hash the first half."""
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)[:24]
    return text[:8] if re.fullmatch("[0-9a-f]{16}", text) else text


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return list(a) == list(b)
    return bool(a == b) or str(a) == str(b)
