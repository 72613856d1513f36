"""What the benchmark scripts share: the head of a record, a clock, the product rate, FLUX's transformer at random."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import Any


def head(script: str, words: Sequence[str], device: str, dtype: Any, commit: str | None = None) -> dict[str, Any]:
    """What each record begins with: command, device, dtype (a name or torch's), packages, commit.

    `words` are those of the command without folders of this machine. A `commit` that is given is that of files which
    came without git or with that of another folder.
    """
    from sega.run import provenance

    return {
        "command": shlex.join(["python", f"scripts/{script}", *words]),
        "device": provenance.device_name(device),
        "dtype": str(dtype).removeprefix("torch."),
        "packages": provenance.packages(),
        **({"commit": commit, "dirty": False} if commit else provenance.code()),
    }


def head_lines(record: dict[str, Any], *more: str) -> list[str]:
    """The head as the first lines of a page; `more` are sentences that follow the versions."""
    packages, commit = record["packages"], record["commit"] or "not known"
    parts = [
        f"{record['device']}, {record['dtype']}",
        f"torch {packages['torch']}, diffusers {packages['diffusers']}",
        f"commit {commit}{' with changes' if record['dirty'] else ''}",
        *more,
    ]
    return [f"`{record['command']}`", "", "; ".join(parts) + "."]


def clock(device: str) -> float:
    """Return seconds: wall-clock time after a GPU is finished, processor time on a CPU."""
    import torch

    if not device.startswith("cuda"):
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def product_rate(device: str, dtype: Any) -> float:
    """Return the operations per second of a product of two large square matrices, the best of ten."""
    import torch

    side = 8192 if device.startswith("cuda") else 512
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        started = clock(device)
        a @ b
        best = min(best, clock(device) - started)
    return 2 * side**3 / best


def random_flux(device: str, dtype: Any, **config: Any) -> Any:
    """The stock transformer with random weights, made on the device, in its published shape except for `config`."""
    import torch
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return FluxTransformer2DModel(**{"guidance_embeds": True} | config).eval()
    finally:
        torch.set_default_dtype(before)
