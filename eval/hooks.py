"""Functions of the evaluation that `run.py` passes to runs. `sega` itself never imports the evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sega.run.hooks import Hooks


def check_protocol(config: dict[str, Any]) -> None:
    """Raise RequestError if a value of a protocol is not valid."""
    from .protocols import check_values

    check_values(config)


def scaling_map(folder: Path) -> Any:
    """Draw the scaling map of the first image of a run, as a matplotlib figure. None without recorded magnitudes."""
    from .figures.steps import scaling
    from .output.manifest import NothingError
    from .records.steps import of_run

    recorded = of_run(folder)
    try:
        return scaling(recorded[:1], recorded, "")
    except NothingError:
        return None


HOOKS = Hooks(check_protocol=check_protocol, scaling_map=scaling_map)
