"""What the engine asks of every adapter besides what is the model's own; a new adapter overrides what differs.

A call is the arguments of the transformer by name, with `hidden_states` [B, S, 4C], the packed latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sega.engine.timeshift import TokenLine
from sega.errors import RequestError
from sega.methods.geometry import Geometry
from sega.methods.types import Stage


class Adapter:
    """Defaults of the seams of `sega.attach` and `sega.engine.sampling`."""

    family: str  # the name that `geometry.family` has in the configs of this model
    positions = "pos_embed"  # the attribute of the transformer that makes rotary tables
    alone = False  # whether samples of a batch must run one at a time while a method changes attention

    windows = True  # whether the pipeline hands on a velocity of another size than asked for, as shifted windows need

    def rotary(self) -> tuple[tuple[int, ...], float]:
        """Rotary dimensions of frame, height and width, and their base, as the model has them."""
        embed = self.transformer.pos_embed
        return tuple(embed.axes_dim), float(embed.theta)

    def check(self, geometry: Geometry) -> None:
        """Refuse a geometry that is not this model's."""
        ours = (geometry.family, tuple(geometry.axes), float(geometry.theta))
        theirs = (self.family, *self.rotary())
        if ours != theirs:
            raise RequestError(
                f"the method was made for family, axes, theta = {ours}, the model has {theirs}; "
                "load the method with the name of this model"
            )

    def shift(self, geometry: Geometry) -> TokenLine:
        """How the pipeline draws the time shift from the size of the picture."""
        return TokenLine(self.pipe.scheduler.config)

    def times(self, stage: Stage) -> list[float]:
        """The unshifted times of a stage as the pipeline itself would list them."""
        return stage.grid()

    def read(self, sentences: tuple[str, ...]) -> None:
        """Encode what `put_sentence` will be asked for, before the transformer runs."""

    def put_sentence(self, call: dict[str, Any], sentence: str) -> dict[str, Any]:
        """The call with the text of a sentence that was read; unchanged where it could not be encoded."""
        return call

    def run(self, forward, call: dict[str, Any]):
        """The transformer's output for a call."""
        return forward(**call)

    def branches(self, branch: str, count: int) -> list[str]:
        """What the samples of a batch are called where each runs alone; `branch` is that of the call."""
        return [branch] * count

    def latent(self, call: dict[str, Any], grid: tuple[int, int]) -> Tensor:
        """The packed latent [B, H*W, 4C] of the picture in a call, without references and further channels."""
        config = self.transformer.config
        channels = (config.get("out_channels") or 0) * (config.get("patch_size") or 1) ** 2
        return call["hidden_states"][:, : grid[0] * grid[1], : channels or None]

    def velocity(self, out, grid: tuple[int, int]) -> Tensor:
        """The packed velocity [B, H*W, 4C] in an output of the transformer."""
        return out[0][:, : grid[0] * grid[1]]

    def join(self, outputs: list):
        """The output for a batch from those for its samples."""
        if isinstance(outputs[0], tuple):
            return tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))
        return type(outputs[0])(sample=torch.cat([out.sample for out in outputs]))

    def embedded(self, output: Tensor, call: dict[str, Any], grid: tuple[int, int]) -> Tensor:
        """The embedded tokens [B, H*W, C] of the picture in the output of the input projection."""
        return output[:, : grid[0] * grid[1]]


def check_processor(stock, *carried: type) -> None:
    """Refuse an attention processor whose work is not known here, so that it is not dropped in silence."""
    if type(stock) not in carried:
        raise RequestError(
            f"attention goes through {type(stock).__name__} here, whose work would be lost where a method changes "
            "attention or record=attention watches it; restore the model's own processors, or use a method that "
            "changes positions only"
        )


def check_shared(options: dict[str, Any] | None, name: str) -> None:
    """Refuse tensors among the options of attention where a batch runs one sample at a time.

    Nothing says whether such a tensor belongs to all samples or holds one entry for each.
    """
    for key, value in (options or {}).items():
        if _holds_tensor(value):
            raise RequestError(
                f"{name}[{key!r}] holds tensors, which can't be divided over a batch; give one prompt at a time"
            )


def _holds_tensor(value) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, Tensor) or (isinstance(value, list | tuple) and any(map(_holds_tensor, value)))
