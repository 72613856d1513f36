"""A GPU that is not there: tensors that say they are on another device, and report what would wait for it.

Their values lie on the CPU. The device is called "meta", which needs no driver. Reading a value, moving one to the CPU
and asking for a shape that depends on values are listed in `waits`; an operation on tensors of two devices raises
RuntimeError, as it would on a GPU.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
READS = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten._unique2,
    aten.unique_dim,
    aten.masked_select,
    aten.bincount,
}


class Pretended(torch.Tensor):
    """A CPU tensor `inner` that says it is on "meta"."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), dtype=inner.dtype, device=torch.device("meta")
        )

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError("pretended tensors live inside of `with PretendedGPU()`")


class PretendedGPU(TorchDispatchMode):
    """While it is entered, tensors can be moved `to("meta")`."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        flat = tree_flatten((args, kwargs))[0]
        ours = [x for x in flat if isinstance(x, Pretended)]
        device = kwargs.pop("device", None)
        there = torch.device(device).type == "meta" if device is not None else bool(ours)
        if not ours and not there:
            return func(*args, **kwargs, **({} if device is None else {"device": device}))
        packet = func.overloadpacket
        # A number beside tensors of a GPU is handed over with the call.
        others = [x for x in flat if isinstance(x, torch.Tensor) and not isinstance(x, Pretended) and x.dim()]
        moving = packet in (aten._to_copy, aten.copy_)
        if ours and others and not moving:
            raise RuntimeError(f"{packet} gets tensors of two devices")
        masked = packet in (aten.index, aten.index_put_) and any(
            x.dtype == torch.bool for x in tree_flatten(args[1])[0] if isinstance(x, torch.Tensor)
        )
        if packet in READS or masked or (ours and not there):
            self.waits.append(str(packet))
        if moving and others and there and not kwargs.get("non_blocking"):
            self.waits.append(f"{packet} to the GPU")

        def inner(x):
            return x.inner if isinstance(x, Pretended) else x

        found = func(*tree_map(inner, args), **tree_map(inner, kwargs))
        if not there:
            return found
        return tree_map(
            lambda x: Pretended(x) if isinstance(x, torch.Tensor) and type(x) is not Pretended else x, found
        )


def moved(module):
    """A module whose parameters and buffers were moved, in place."""
    for part in module.modules():
        for place in (part._parameters, part._buffers):
            place.update({name: Pretended(x.data) for name, x in place.items() if x is not None})
    return module
