"""Which blocks of a transformer run in a call, and the operations they make up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sega.formulas.flops import call_flops
from sega.models.base import Adapter

LISTS = (("transformer_blocks", "num_layers"), ("single_transformer_blocks", "num_single_layers"))
"""Where blocks stand in a transformer, and the key of its config that gives their number."""


@contextmanager
def counted_blocks(adapter: Adapter) -> Iterator[list[str]]:
    """A list that gets the name of its list in the transformer for each block that runs.

    A block that is left out is called too, by a hook that returns something else; its attention is not.
    """
    ran: list[str] = []
    with ExitStack() as undo:
        for name, _ in LISTS:
            for block in getattr(adapter.transformer, name, ()):
                hook = block.attn.register_forward_hook(lambda *_, name=name: ran.append(name))
                undo.callback(hook.remove)
        yield ran


def share_of_operations(
    adapter: Adapter, call: dict[str, Any], ran: list[str] | None, saved: int = 0, image: int | None = None
) -> float:
    """The operations of a call over those of a whole one, counted from the config.

    The blocks `ran`, None: all; attention left out `saved` pairs of queries and keys. A whole call has `image` tokens
    of the image; None: those of this call.
    """
    transformer = adapter.transformer
    config = {**transformer.config, "_class_name": type(transformer).__name__}
    tokens = call["hidden_states"].shape[1]
    text = len(adapter.ids(call)) - tokens
    part = config if ran is None else config | {key: ran.count(name) for name, key in LISTS}
    whole, done = call_flops(config, image or tokens, text), call_flops(part, tokens, text)
    if whole is None or done is None:  # a class that is not counted
        blocks = 1.0 if ran is None else len(ran) / len(adapter.attention_layers())
        return blocks * tokens / (image or tokens)
    width = config["dim"] if "dim" in config else config["num_attention_heads"] * config["attention_head_dim"]
    return (done - 4 * width * saved) / whole
