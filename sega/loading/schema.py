"""The `model` block of a configuration, key by key; `docs/checkpoints.md` explains placement at length."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict


class GeometryConfig(TypedDict):
    """`model.geometry`: the numbers of a model that formulas need."""

    family: Annotated[str, "Family of transformers, a name of `sega.methods.families`."]
    axes: Annotated[list[int], "Rotary dimensions of frame, height and width; half of each are pairs."]
    theta: Annotated[float, "Base of the rotary frequencies."]
    train_tokens: Annotated[int, "Side of the training grid in tokens."]
    sega_train_tokens: Annotated[int, "Side of the training grid for SEGA, whose code takes 1024 px for every model."]
    token_pixels: Annotated[int, "Pixels a token covers on each side."]
    text_tokens: Annotated[int, "Tokens that the text is padded to."]


class ModelConfig(TypedDict):
    """The `model` block of a cell: a checkpoint, and how it is loaded and placed."""

    name: Annotated[str, "Name of the model: its folder in a store."]
    id: Annotated[str, "Repository of the hub, or `embedded`; part of the identity of a cell."]
    path: Annotated[str | None, "A diffusers folder or another repository, used in place of `id`."]
    revision: Annotated[str | None, "Commit, branch or tag of the repository; null: main as it was when cached."]
    dtype: Annotated[str, "`float32`, `bfloat16` or `float16`."]
    native: Annotated[int, "Training size: side in px."]
    steps: Annotated[int, "Steps where the request names none."]
    guidance: Annotated[float, "Guidance where the request names none."]
    negative_prompt: Annotated[str | None, "Negative prompt of true guidance; null for models with distilled guidance."]
    vae_tiling: Annotated[bool, "Whether images with a side above `vae_tile` are decoded in tiles."]
    vae_tile: Annotated[int, "Longest side in px that is decoded in one piece."]
    geometry: Annotated[GeometryConfig, "Numbers that formulas need."]
    memory: Annotated[str, "Placement: `auto`, `gpu`, `offload`, `group` or `sequential`."]
    budget_gb: Annotated[float | None, "GPU memory to plan with, in GB; null: what is free."]
    text_cache: Annotated[str | None, "Folder of prompt embeddings; null: text encoders stay beside the transformer."]
    quantize: Annotated[str | None, "`8bit` or `4bit` weights through bitsandbytes, or `fp8`; changes pixels."]
    cache: Annotated[str | None, "Step caching: `first_block`, `taylorseer` or `sea`, with `:<number>` or its default."]
    solver: Annotated[str | None, "`euler` (as null), `heun`, `dpm++2m` or `unipc`, on the same sigmas."]
    progressive: Annotated[float | str | None, "First steps on a smaller latent: the tolerance, and `:<halvings>`."]
    late_attention: Annotated[str | None, "`window:<sides>:<sigma>` or `pruned:<share>:<sigma>`: attention late."]
    base_steps: Annotated[str | None, "`Fx`: F times the steps of the base stage of a staged method."]
    attention: Annotated[str | None, "Attention backend of diffusers; null: the stock one."]
    parallel: Annotated[str | None, "`ulysses`, `ring` or `blocks`: one image on several devices."]
    compile: Annotated[bool, "Whether the repeated blocks are compiled."]
    download: Annotated[bool, "Whether missing weights are fetched from the hub."]
    published: Annotated[dict[str, Any] | None, "Components of the published checkpoint, for a dry run without it."]
