"""A small random `FluxPipeline`: the architecture of the embedded model with a training side of 128 px (16 tokens).

Half its heads and fewer tokens, so that images of four and sixteen times its size stay cheap.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sega.methods.geometry import Geometry, load_geometry

SIDE = 16
SMALL = {"theta": 100, "train_tokens": SIDE, "sega_train_tokens": SIDE}


def small_geometry() -> Geometry:
    """Its geometry: that of the embedded model with a smaller training side."""
    return replace(load_geometry("tiny"), **SMALL)


def build_pipeline(heads: int = 2, **blocks: int) -> Any:
    """The pipeline, with weights that make every input matter. `blocks`: numbers of `double` and `single` blocks."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    from sega.embedded import model
    from sega.loading.pipeline import set_theta

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        t5, clip = model.build_text_encoders()
        transformer, vae = model.build_transformer(heads=heads, **blocks), model.build_autoencoder()
        # A fresh transformer says next to nothing; give it something to say.
        for parameter in transformer.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    set_theta(transformer, SMALL["theta"])
    pipe = model.assemble(*(part.eval() for part in (transformer, vae, t5, clip)))
    # The shift meets its upper value at the training side, as it does in the published models.
    tokens = {"base_image_seq_len": (SIDE // 4) ** 2, "max_image_seq_len": SIDE**2}
    pipe.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, **tokens)
    pipe.set_progress_bar_config(disable=True)
    return pipe
