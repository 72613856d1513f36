"""What the evaluation offers to runs; runs never import `eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Hooks(NamedTuple):
    """Functions of other packages. `eval.hooks` provides them."""

    check_protocol: Callable[[dict[str, Any]], None] | None = None  # raises RequestError for a wrong `eval` block
    scaling_map: Callable[[Path], Any] | None = None  # a figure of the run in a folder, or None


NO_HOOKS = Hooks()
