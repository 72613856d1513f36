"""Attention that is dense above a sigma and follows a pattern below it: the key `model.late_attention`."""

from __future__ import annotations

from torch import Tensor

from sega.methods.base import Attention, Method
from sega.methods.stepping import Late
from sega.methods.types import AttentionCall, Generation


class LateAttention(Attention):
    """Attention of one stage of a method that has none of its own."""

    def __init__(self, rule: Late, method: Method, generation: Generation):
        pattern = rule.pattern(method).attention(0, generation)
        assert pattern is not None  # both kinds have one
        self.sigma, self.pattern = rule.sigma, pattern
        self.latent = pattern.latent  # type: ignore[misc]  # of the class elsewhere; here the kind decides

    def attend(self, call: AttentionCall) -> Tensor:
        return self.pattern.attend(call) if call.step.sigma < self.sigma else super().attend(call)
