"""What a step of each direct method waits for on a GPU."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from scripts.bench.images import PROMPT
from scripts.bench.record import Part

ROOT = Path(__file__).resolve().parents[2]
STEPS = 4
SIDE = 384  # px: twice the training side
WORD = "synchroniz"  # in what torch warns of


def count(part: Part, device: str) -> None:
    """Add a row for each direct method and one for the stock pipeline: waits a step, and the lines that wait."""
    from sega import load_method, load_pipeline
    from sega.methods.registry import METHODS

    if not device.startswith("cuda"):
        part.leave_out("all", "waits are counted on a GPU")
        return
    pipe = load_pipeline("tiny", device=device)
    methods = {name: load_method(name, pipe) for name in METHODS}
    for name in ("stock", *(name for name, method in methods.items() if not method.staged)):
        part.measure(name, 2, waits, pipe, methods.get(name))


def waits(pipe: Any, method: Any) -> dict[str, Any]:
    """Waits a step after the first two, in which tables are made and moved; `method` None: the stock pipeline."""
    from sega import attach

    found: list[str] = []

    def after_step(_pipe: Any, index: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        if index == 1:
            caught.clear()
        elif index == STEPS - 1:
            found.extend(f"{_short(item.filename)}:{item.lineno}" for item in caught if WORD in str(item.message))
        return values

    with nullcontext() if method is None else attach(pipe, method), watched() as caught:
        pipe(
            PROMPT,
            width=SIDE,
            height=SIDE,
            num_inference_steps=STEPS,
            output_type="latent",
            callback_on_step_end=after_step,
        )
    lines = {line: number / (STEPS - 2) for line, number in Counter(found).items()}
    return {"waits": sum(lines.values()), "lines": lines}


@contextmanager
def watched() -> Iterator[list[warnings.WarningMessage]]:
    """The warnings of torch, each with the line of Python that asked for what synchronises."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield caught
        finally:
            torch.cuda.set_sync_debug_mode("default")


def _short(path: str) -> str:
    """A file as this project or its package names it."""
    file = Path(path)
    if file.is_relative_to(ROOT):
        return str(file.relative_to(ROOT))
    return path.rpartition("site-packages/")[2]
