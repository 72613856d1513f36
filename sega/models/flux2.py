"""FLUX.2: how a method meets `Flux2Transformer2DModel`, `Flux2Pipeline` and `Flux2KleinPipeline`.

Docstrings: `sega.models.base`. Position ids have a fourth column, the place in the text, whose rotary axis keeps the
model's own values. Latents are normalised by running statistics of packed channels, so unpacked ones have those of
their corner of the token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux2 import Flux2AttnProcessor, Flux2ParallelSelfAttnProcessor
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from torch import Tensor

from sega.errors import RequestError
from sega.methods.base import base_axis
from sega.methods.geometry import Geometry
from sega.methods.types import Rope
from sega.models.calls import Remembered, check_processor, check_shared, one_sample
from sega.models.flux_tables import rotary_table
from sega.models.latents import PackedLatents, TiledAutoencoder
from sega.models.row_ids import grid_of_rows, image_ids, shifted
from sega.models.token_line import TokenLine

BATCHED = ("hidden_states", "encoder_hidden_states", "timestep", "guidance")


class EmpiricalLine(TokenLine):
    """mu as the pipeline fits it: by tokens and steps up to 4300 tokens, by tokens alone above."""

    def __init__(self, config: Mapping[str, Any], native_tokens: int):
        super().__init__(config)
        self.native = native_tokens

    def mu(self, tokens: int, steps: int) -> float:
        return compute_empirical_mu(tokens, steps)

    def pinned(self, steps: int) -> float:
        return self.mu(self.native, steps)

    def beyond(self, mu: float, steps: int) -> bool:
        """mu falls at 4300 tokens, so it is looked up instead of compared: each size has its own."""
        low, high = self.mu(1, steps), self.pinned(steps)
        if not low <= mu <= high:
            return True
        near = round(1 + (mu - low) / (high - low) * (self.native - 1))
        return all(self.mu(tokens, steps) != mu for tokens in (near - 1, near, near + 1))


class Flux2Adapter(PackedLatents, TiledAutoencoder):
    """FLUX.2: text first in the joint sequence on an axis of its own, the image from position 0."""

    family = "flux2"
    windows = False  # the pipeline cuts the velocity to the size asked for

    def __init__(self, target: Any):
        super().__init__(target)
        self.exact, self.grid_of = Remembered(_exact), Remembered(grid_of_rows)
        self.joint = Remembered(lambda *ids: torch.cat(ids))

    @property
    def input_layer(self) -> torch.nn.Module:
        return self.transformer.x_embedder

    def attention_layers(self) -> list[torch.nn.Module]:
        blocks = [*self.transformer.transformer_blocks, *self.transformer.single_transformer_blocks]
        return [block.attn for block in blocks]

    def processor(self, attend: Callable[..., Tensor], stock: Any) -> Any:
        check_processor(stock, Flux2AttnProcessor, Flux2ParallelSelfAttnProcessor)
        return Processor(attend)

    def rotary_axes(self) -> tuple[tuple[int, ...], float]:
        axes, theta = super().rotary_axes()
        return axes[:3], theta

    def shift(self, geometry: Geometry) -> EmpiricalLine:
        return EmpiricalLine(self.pipe.scheduler.config, geometry.train_tokens**2)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a transformer call by name, with position ids [N, 4] in float32."""
        call = super().bind(args, kwargs)
        if call.get("kv_cache_mode") is not None:
            raise RequestError("a method can't be combined with a cache of reference images; use the plain pipeline")
        call["img_ids"], call["txt_ids"] = self.exact(call["img_ids"], call["txt_ids"])
        return call

    def run(self, forward: Callable[..., Any], call: dict[str, Any]) -> Any:
        """As in the interface; ids get back the batch dimension, by which sequence parallelism splits them."""
        return forward(**call | {key: call[key][None] for key in ("img_ids", "txt_ids")})

    def grid(self, call: dict[str, Any]) -> tuple[int, int]:
        return self.grid_of(call["img_ids"])

    def put_grid(self, call: dict[str, Any], grid: tuple[int, int]) -> dict[str, Any]:
        return call | {"img_ids": torch.nn.functional.pad(image_ids(grid, call["img_ids"].device), (0, 1))}

    def put_text(self, call: dict[str, Any], places: list[tuple[int, int]]) -> dict[str, Any]:
        """Refused: the model has an axis of its own for text, and was never given text beside a part of an image."""
        raise RequestError("FLUX.2's text has an axis of its own; set text_duplication=false")

    def samples(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        check_shared(call.get("joint_attention_kwargs"), "joint_attention_kwargs")
        batch, keys = len(call["hidden_states"]), [key for key in BATCHED if key in call]
        return [call | {key: one_sample(call[key], i, batch) for key in keys} for i in range(batch)]

    def ids(self, call: dict[str, Any]) -> Tensor:
        return self.joint(call["txt_ids"], call["img_ids"])

    def text_ids(self, call: dict[str, Any], place: tuple[int, int], size: tuple[int, int]) -> Tensor:
        return shifted(call["txt_ids"], [0, *place, 0])

    def table(self, rope: Rope, geometry: Geometry, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        (ids,) = args
        text_axis = base_axis(self.transformer.config.axes_dims_rope[3], geometry.theta)
        return rotary_table(ids, rope, geometry, text_axis)

    def rotate(self, x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        return apply_rotary_emb(x, table, sequence_dim=1)

    @staticmethod
    def encode_text(pipe: Any, sentence: str, tokens: int) -> dict[str, Tensor]:
        return {"prompt_embeds": pipe.encode_prompt(sentence, max_sequence_length=tokens)[0]}

    def sample(
        self,
        prompt: str,
        size: tuple[int, int],
        latent: Tensor,
        *,
        guidance: float,
        negative_prompt: str | None = None,
        **arguments: Any,
    ) -> Tensor:
        """As in the interface; guidance is distilled, and there is no negative prompt."""
        if negative_prompt:
            raise RequestError("FLUX.2 takes no negative prompt; use model.negative_prompt=null")
        if self.texts is not None and guidance > 1 and self.pipe.config.get("is_distilled") is False:
            raise RequestError("this checkpoint encodes an empty prompt for its guidance; use model.text_cache=null")
        grid = (latent.shape[-2] // 2, latent.shape[-1] // 2)
        # The pipeline takes packed channels on the grid and packs the grid itself.
        channels = self.pack(latent).transpose(1, 2).unflatten(2, grid)
        text = self.text_arguments(prompt)
        return self.unpack(self.denoise(size, channels, guidance_scale=guidance, **text, **arguments), grid)

    def normalise(self, latent: Tensor) -> Tensor:
        mean, std = self._statistics(latent)
        return (latent - mean) / std

    def denormalise(self, latent: Tensor) -> Tensor:
        mean, std = self._statistics(latent)
        return latent * std + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each latent channel at each corner of a token, spread over the latent [B, C, h, w]."""
        norm, grid = self.pipe.vae.bn, (like.shape[-2] // 2, like.shape[-1] // 2)
        std = torch.sqrt(norm.running_var + self.pipe.vae.config.batch_norm_eps)
        tokens = (value.to(like).expand(1, grid[0] * grid[1], -1) for value in (norm.running_mean, std))
        mean, std = (self.unpack(value, grid) for value in tokens)
        return mean, std


class Processor:
    """What `Flux2AttnProcessor` and `Flux2ParallelSelfAttnProcessor` compute, with the attention left to a function."""

    def __init__(self, attend: Callable[..., Tensor]):
        self.attend = attend

    def __call__(self, attn, hidden_states, *rest):
        *words, mask, table = rest
        if mask is not None:
            raise RequestError("an attention method can't be combined with an attention mask")
        if hasattr(attn, "to_qkv_mlp_proj"):
            return self.parallel(attn, hidden_states, table)
        if attn.fused_projections:
            raise RequestError("unfuse the projections of the transformer before attaching an attention method")
        heads, (text,) = (-1, attn.head_dim), words
        q, k, v = (layer(hidden_states).unflatten(-1, heads) for layer in (attn.to_q, attn.to_k, attn.to_v))
        layers = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        text_q, text_k, text_v = (layer(text).unflatten(-1, heads) for layer in layers)
        q = torch.cat([attn.norm_added_q(text_q), attn.norm_q(q)], dim=1)
        k = torch.cat([attn.norm_added_k(text_k), attn.norm_k(k)], dim=1)
        v = torch.cat([text_v, v], dim=1)
        out = self.attend(q, k, v, table, dispatch_attention_fn).flatten(2, 3).to(q.dtype)
        count = text.shape[1]
        image = attn.to_out[1](attn.to_out[0](out[:, count:]))
        return image, attn.to_add_out(out[:, :count])

    def parallel(self, attn, hidden_states, table):
        """A single block, whose projections hold the feed-forward layer too."""
        joint = attn.to_qkv_mlp_proj(hidden_states)
        qkv, inner = torch.split(joint, [3 * attn.inner_dim, joint.shape[-1] - 3 * attn.inner_dim], dim=-1)
        q, k, v = (part.unflatten(-1, (-1, attn.head_dim)) for part in qkv.chunk(3, dim=-1))
        q, k = attn.norm_q(q), attn.norm_k(k)
        out = self.attend(q, k, v, table, dispatch_attention_fn).flatten(2, 3).to(q.dtype)
        return attn.to_out(torch.cat([out, attn.mlp_act_fn(inner)], dim=-1))


def _exact(img_ids: Tensor, txt_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Position ids [N, 4] of image and text in float32; those in half precision raise RequestError."""
    for name, ids in (("img_ids", img_ids), ("txt_ids", txt_ids)):
        if ids.dtype in (torch.bfloat16, torch.float16):
            raise RequestError(f"{name} in half precision are not exact; give whole numbers or float32")
    img_ids, txt_ids = (ids[0] if ids.dim() == 3 else ids for ids in (img_ids, txt_ids))
    return img_ids.float(), txt_ids.float()
