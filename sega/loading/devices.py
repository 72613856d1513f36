"""Choose the device of a worker; with `device=auto` and several GPUs, each worker gets its own."""

from __future__ import annotations

import fcntl
import functools
import os
import sys
import tempfile
from pathlib import Path

from sega.compat import cpu_lacks_bfloat16

_kept: list[int] = []  # lock files of GPUs, open for as long as this process lives


@functools.cache
def device_for(wish: str) -> str:
    """A torch device: `wish` itself, or for `auto` the CPU, the one GPU, or one that no other worker here has.

    Launchers that give each job its GPU (SLURM, Ray) let it see only that one. Others let all jobs see all GPUs; the
    workers then share them out by locks, in the temporary folder of the machine, that end with their processes.
    """
    if wish != "auto":
        return wish
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    names = [gpu_name(index) for index in range(torch.cuda.device_count())]
    free = next((index for index, name in enumerate(names) if take(name)), None) if len(names) > 1 else 0
    if free is None:
        free = os.getpid() % len(names)
        print(f"warning: every GPU here has a worker already; sharing cuda:{free}", file=sys.stderr, flush=True)
    return f"cuda:{free}" if len(names) > 1 else "cuda"


def slow(dtype: str, wish: str) -> str | None:
    """What to say of a dtype that takes a CPU many times as long as float32; None for any other, and for a GPU."""
    import torch

    on_cpu = wish == "cpu" or (wish == "auto" and not torch.cuda.is_available())
    if dtype != "bfloat16" or not on_cpu or not cpu_lacks_bfloat16():
        return None
    return "this CPU has no instructions for bfloat16: with model.dtype=float32 images take a small part of the time"


def gpu_name(index: int) -> str:
    """A name of a GPU that does not depend on which GPUs a process sees."""
    import torch

    properties = torch.cuda.get_device_properties(index)
    return str(getattr(properties, "uuid", f"{properties.name}-{index}"))


def take(name: str) -> bool:
    """Lock a name on this machine until this process ends; False if another process holds it."""
    path = Path(tempfile.gettempdir()) / f"sega-gpu-{name.replace(' ', '-')}.lock"
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    _kept.append(file)
    return True
