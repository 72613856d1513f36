"""A method in a modular pipeline of diffusers: a block that attaches it while the denoising block runs.

Modular pipelines are experimental in diffusers; the block was run with 0.42.
"""

from __future__ import annotations

from typing import Any

from diffusers.modular_pipelines import InputParam, SequentialPipelineBlocks

from sega.engine.attachment import attach
from sega.errors import RequestError, near
from sega.methods.base import Method


class MethodBlock(SequentialPipelineBlocks):
    """The blocks inside, run with a method attached; the pipeline then takes `method=`, None for the plain model.

    The blocks inside must hold the step that sets the timesteps, since methods choose the time shift. Staged methods
    are refused, as `attach` refuses them.
    """

    @property
    def description(self) -> str:
        return "Runs its blocks with a method of SEGA-bench attached to the transformer and the scheduler."

    @property
    def inputs(self) -> list[InputParam]:
        about = "Method of SEGA-bench, as `sega.load_method` gives it; None: the plain model."
        return [*super().inputs, InputParam("method", type_hint=Method, description=about)]

    def __call__(self, pipeline: Any, state: Any) -> Any:
        method = state.get("method")
        if method is None:
            return super().__call__(pipeline, state)
        with attach(pipeline, method):
            return super().__call__(pipeline, state)


def with_method(blocks: Any, name: str = "denoise") -> Any:
    """Put a MethodBlock around the block of that name, and return the blocks.

    `blocks` are those of a whole pipeline, such as `FluxAutoBlocks()`. Raises RequestError if there is no such block.
    """
    if name not in blocks.sub_blocks:
        raise RequestError(f"{type(blocks).__name__} has no block {name}{near(name, blocks.sub_blocks)}")
    blocks.sub_blocks[name] = MethodBlock.from_blocks_dict({name: blocks.sub_blocks[name]})
    return blocks
