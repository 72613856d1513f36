"""What a device trains in: bfloat16, or float32 on a CPU that has no instructions for it."""

from __future__ import annotations

import torch

from sega.loading.devices import slow


def working_dtype(device: str) -> torch.dtype:
    """Return the dtype of products."""
    return torch.float32 if slow("bfloat16", device.partition(":")[0]) else torch.bfloat16


def autocast(device: str) -> torch.autocast:
    """Return a context in which modules in float32 compute in the dtype of the device."""
    dtype = working_dtype(device)
    return torch.autocast(device.partition(":")[0], dtype, enabled=dtype != torch.float32)
