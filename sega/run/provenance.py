"""Describe the machine for records: code, packages, device, peak memory."""

from __future__ import annotations

import functools
import resource
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from sega.home import CLONE

if TYPE_CHECKING:
    from sega.store.schema import Code

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "tokenizers", "numpy", "pillow")


@functools.cache
def code() -> Code:
    """Commit of this project and whether the tree differs from it; None without git."""

    def git(*words: str) -> str | None:
        if CLONE is None:
            return None
        try:
            done = subprocess.run(["git", "-C", str(CLONE), *words], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def packages() -> dict[str, str]:
    """Versions of the packages that pixels may depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


def device_name(device: str) -> str:
    """The device in words."""
    import torch

    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)"


def reset_peak(device: str) -> None:
    """Start a new measurement of peak memory."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # not Linux, or not allowed: the peak is then that of the whole process


def peak_mb(device: str) -> float:
    """Peak memory in MB since `reset_peak`: allocated on a GPU, resident in the process on a CPU."""
    if device.startswith("cuda"):
        import torch

        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        pass  # no /proc
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
