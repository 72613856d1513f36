"""Patch instances of a pipeline, and undo the patches in any order.

Offloading, caches, adapters and compilers patch the same instances, before, after and in between. Two rules make the
order irrelevant: what others replace too (`forward`, attention processors, layers) is not replaced here; and what is
replaced is taken back only while it is still in place. Where somebody has wrapped it meanwhile, it stays inside that
wrapper and passes every call on to the original.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


class Patches:
    """The patches of one attachment."""

    def __init__(self):
        self.active = True
        self._undo: list[Callable[[], None]] = []

    def method(self, owner: Any, name: str, answer: Callable) -> None:
        """Let `answer` take the calls of `owner.name` until `undo`."""
        own, original = vars(owner).get(name), getattr(owner, name)

        @functools.wraps(original)
        def stand_in(*args, **kwargs):
            return (answer if self.active else original)(*args, **kwargs)

        stand_in.patches = self
        setattr(owner, name, stand_in)

        def undo():
            if vars(owner).get(name) is not stand_in:
                return
            if own is None:
                delattr(owner, name)
            else:
                setattr(owner, name, own)

        self._undo.append(undo)

    def part(self, owner: torch.nn.Module, name: str, module: torch.nn.Module) -> None:
        """Put `module` in the place of `owner.name` until `undo`."""
        original = getattr(owner, name)
        # A plain attribute can't be given back once a module has taken its name.
        put = setattr if isinstance(original, torch.nn.Module) else object.__setattr__
        put(owner, name, module)

        def undo():
            if getattr(owner, name) is module:
                put(owner, name, original)

        self._undo.append(undo)

    def undo(self) -> None:
        """Take everything off, the last patch first. Doing it twice is harmless."""
        self.active = False
        while self._undo:
            self._undo.pop()()


def is_patched(owner: Any, name: str) -> bool:
    """Return whether an active attachment receives the calls of `owner.name`."""
    patches = getattr(vars(owner).get(name), "patches", None)
    return isinstance(patches, Patches) and patches.active
