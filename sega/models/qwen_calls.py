"""The arguments of calls of Qwen-Image's transformer and of its `pos_embed`: pure functions.

A call is the transformer's arguments by name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sega.errors import RequestError

BATCHED = (
    "hidden_states",
    "encoder_hidden_states",
    "encoder_hidden_states_mask",
    "timestep",
    "guidance",
    "additional_t_cond",
    "controlnet_block_samples",
    "txt_seq_lens",
)


def picture_shapes(img_shapes) -> list[tuple[int, int, int]]:
    """(frames, height, width) in tokens of the image and its references; all samples share those of the first."""
    first = img_shapes[0] if isinstance(img_shapes, list) else img_shapes
    return first if isinstance(first, list) else [first]


def extent(shapes: list[tuple[int, int, int]]) -> tuple[int, int]:
    """The grid (height, width) behind which text starts."""
    return max(height for _, height, _ in shapes), max(width for _, _, width in shapes)


def position_arguments(img_shapes, *rest, txt_seq_lens=None, max_txt_seq_len=None, device=None):
    """Shapes, text length and device of a call of `pos_embed`.

    Releases differ: (img_shapes, txt_seq_lens, device) with a length per sample, the longest of which counts, and
    (img_shapes, device, max_txt_seq_len).
    """
    lengths = max_txt_seq_len if max_txt_seq_len is not None else txt_seq_lens
    for value in rest:
        if isinstance(value, torch.device | str):
            device = value
        elif value is not None:
            lengths = value
    if lengths is None:
        raise RequestError("pos_embed was called without the length of the text; this release of diffusers is unknown")
    return picture_shapes(img_shapes), int(torch.as_tensor(lengths).max()), device


def unpadded(call: dict[str, Any]) -> dict[str, Any]:
    """The call of one sample without masked tokens at the end of its text; unchanged where others are masked."""
    mask = call.get("encoder_hidden_states_mask")
    length = 0 if mask is None else int(mask[0].sum())
    if length == 0 or not bool(mask[0, :length].all()):
        return call
    text = call["encoder_hidden_states"][:, :length]
    return call | {"encoder_hidden_states": text, "encoder_hidden_states_mask": None}


def split(call: dict[str, Any]) -> list[dict[str, Any]]:
    """The call of a batch as one call per sample."""
    return [_sample(call, index) for index in range(len(call["hidden_states"]))]


def _sample(call: dict[str, Any], index: int) -> dict[str, Any]:
    batch, shapes = len(call["hidden_states"]), call["img_shapes"]

    def one(value):
        if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
            return [one(item) for item in value]
        sized = isinstance(value, list | tuple) or (isinstance(value, Tensor) and value.dim() > 0)
        return value[index : index + 1] if sized and len(value) == batch else value

    # The pipeline gives one shape per prompt, however many images each prompt gets.
    own = shapes[index : index + 1] or shapes[:1] if isinstance(shapes, list) else shapes
    return call | {key: one(call[key]) for key in BATCHED if key in call} | {"img_shapes": own}
