"""The record of scripts/bench_gpu.py: parts that end on time, and failures that stop nothing else."""

from __future__ import annotations

import json
import re
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sega.errors import RequestError

ROOT = Path(__file__).resolve().parents[2]


class Record:
    """Measurements in a JSON file that is written after each of them."""

    def __init__(self, path: Path, head: dict[str, Any], seconds: float):
        """`seconds` is the budget of all parts together, from now on."""
        self.path, self.ends = path, time.monotonic() + seconds
        self.values = {**head, "seconds": seconds, "parts": {}}
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write()

    def run(self, name: str, seconds: float, function: Callable[[Part], None]) -> None:
        """Run a part within its own budget and that of all; what it raises is recorded."""
        _release()  # what the part before held counts in no peak
        part = Part(self, name, min(time.monotonic() + seconds, self.ends))
        begun = time.monotonic()
        if part.left() > 0:
            part.guarded(name, function, part)
        else:
            part.leave_out(name, "no time was left")
        part.values["seconds"] = time.monotonic() - begun
        self.write()

    def write(self) -> None:
        self.path.write_text(json.dumps(self.values, indent=1) + "\n")


class Part:
    """One part of a record: `rows` in order of time, `left_out` and `failed` by name."""

    def __init__(self, record: Record, name: str, ends: float):
        self.record, self.ends = record, ends
        self.values: dict[str, Any] = {"rows": [], "left_out": {}, "failed": {}}
        record.values["parts"][name] = self.values

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.values["rows"]

    def left(self) -> float:
        """Seconds that are left."""
        return self.ends - time.monotonic()

    def note(self, **values: Any) -> None:
        """Keep values that are not of one row."""
        self.values |= values
        self.record.write()

    def measure(self, name: str, seconds: float, function: Callable[..., Any], *args: Any) -> dict[str, Any] | None:
        """Add the row that `function` returns; None where it failed or its `seconds` are not left."""
        if seconds > self.left():
            self.leave_out(name, f"needs about {seconds:.0f} s, {max(self.left(), 0):.0f} s were left")
            return None
        begun = time.monotonic()
        row = self.guarded(name, function, *args)
        if row is not None:
            self.rows.append({"name": name} | row)
            print(f"{time.monotonic() - begun:6.1f} s  {name}", flush=True)
        self.record.write()
        return row

    def leave_out(self, name: str, reason: str) -> None:
        self.values["left_out"][name] = reason
        print(f"left out  {name}: {reason}", flush=True)

    def guarded(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """What a function returns; None, with the reason or the traceback in the record, where it raises anything."""
        try:
            return function(*args)
        except RequestError as error:
            self.leave_out(name, str(error))
        except Exception:  # the machine is lent for minutes: whatever fails, the rest is still to be measured
            self.values["failed"][name] = trace = _without_folders(traceback.format_exc())
            print(trace, flush=True)
        _release()
        return None


def _without_folders(trace: str) -> str:
    """A traceback whose files are named from the project or from the folder of packages."""
    return re.sub(r'File "(?:[^"]*site-packages/)', 'File "', trace.replace(f"{ROOT}/", ""))


def _release() -> None:
    """Give back the GPU memory that nobody uses any more."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
