"""Stand-ins that several tests put into models."""

import torch

from sega.methods.base import Attention


class Table(torch.nn.Module):
    """Rotary tables that are given: those of diffusers can't be computed on the meta device."""

    def __init__(self, *tables):
        super().__init__()
        self.tables = tables

    def forward(self, *args, **kwargs):
        return self.tables


class Watching(Attention):
    """Attention as it is, noted in `calls`; fails where turning by given ids differs from turning."""

    def __init__(self, calls):
        self.calls = calls

    def attend(self, call):
        self.calls.append(call)
        turned, again = call.rotate(call.q), call.rotate(call.q, ids=call.ids.clone())
        torch.testing.assert_close(turned, again, rtol=1e-4, atol=1e-4)
        return super().attend(call)
