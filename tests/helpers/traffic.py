"""What torch itself counts: operations by the kind of kernel, and the bytes that kernels read and write."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten
FREE = (aten.detach, aten.empty, aten._unsafe_view)


class Traffic(TorchDispatchMode):
    """Bytes of all tensors that go into kernels and come out of them, each once a kernel; views are free."""

    def __init__(self):
        super().__init__()
        self.bytes = self.kernels = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view and func.overloadpacket not in FREE:
            self.bytes += sum(map(_bytes, tree_leaves((args, kwargs, out))))
            self.kernels += 1
        return out


def _bytes(value):
    """Of a tensor as it lies in memory: what is expanded is there once."""
    if not isinstance(value, torch.Tensor):
        return 0
    whole = value.itemsize
    for side, stride in zip(value.shape, value.stride(), strict=True):
        whole *= side if stride or side == 1 else 1
    return whole


@contextmanager
def operations():
    """A counter of operations; attention runs as plain products, since it knows not every fused kernel of a CPU."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        yield counter
