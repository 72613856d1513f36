"""What a device trains in: bfloat16, or float32 on a CPU that has no instructions for it."""

from __future__ import annotations

import torch

from sega.compat import cpu_lacks_bfloat16


def working_dtype(device: str) -> torch.dtype:
    """Return the dtype of products."""
    return torch.float32 if torch.device(device).type == "cpu" and cpu_lacks_bfloat16() else torch.bfloat16


def autocast(device: str) -> torch.autocast:
    """Return a context in which modules in float32 compute in the dtype of the device."""
    dtype = working_dtype(device)
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)
