"""FLUX.2: how a method meets `Flux2Transformer2DModel`, `Flux2Pipeline` and `Flux2KleinPipeline`.

Shapes: B samples, T text tokens, S image tokens = H*W; packed latents [B, S, 4C], unpacked [B, C, 2H, 2W]. Position ids
have a fourth column, the place in the text, whose rotary axis keeps the model's own values. Latents are normalised
by running statistics of packed channels, so unpacked ones have those of their corner of the token.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_flux2 import Flux2AttnProcessor, Flux2ParallelSelfAttnProcessor
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from torch import Tensor

from sega import compat
from sega.engine.timeshift import TokenLine
from sega.errors import RequestError
from sega.methods.base import base_axis
from sega.methods.geometry import Geometry
from sega.methods.types import Rope
from sega.models.base import check_processor
from sega.models.flux import FluxAdapter
from sega.models.flux_tables import rotary_table


class EmpiricalLine(TokenLine):
    """mu as the pipeline fits it: by tokens and steps up to 4300 tokens, by tokens alone above."""

    def __init__(self, config, native_tokens: int):
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


class Flux2Adapter(FluxAdapter):
    """One pipeline, or one bare transformer; packing, times and pictures are handled as those of FLUX."""

    family = "flux2"
    windows = False  # the pipeline cuts the velocity to the size asked for

    def rotary(self) -> tuple[tuple[int, ...], float]:
        """Rotary dimensions of frame, height and width, and their base, as the model has them."""
        axes, theta = super().rotary()
        return axes[:3], theta

    def shift(self, geometry: Geometry) -> EmpiricalLine:
        """How the pipeline draws the time shift from the size of the picture."""
        return EmpiricalLine(self.pipe.scheduler.config, geometry.train_tokens**2)

    def bind(self, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a transformer call by name, with position ids [N, 4] in float32."""
        call = dict(self.signature.bind_partial(self.transformer, *args, **kwargs).arguments)
        call.pop("self")
        if call.get("kv_cache_mode") is not None:
            raise RequestError("a method can't be combined with a cache of reference pictures; use the plain pipeline")
        for key in ("img_ids", "txt_ids"):
            if call[key].dtype in (torch.bfloat16, torch.float16):
                raise RequestError(f"{key} in half precision are not exact; give whole numbers or float32")
            call[key] = (call[key][0] if call[key].dim() == 3 else call[key]).float()
        return call

    def run(self, forward, call: dict[str, Any]):
        """The transformer's output for a call; ids get back the batch dimension that sequence parallelism splits by."""
        return forward(**call | {key: call[key][None] for key in ("img_ids", "txt_ids")})

    def samples(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        """The call of a batch as one call per sample."""
        return [{key: sample[key] for key in call} for sample in super().samples(call)]

    def put_latent(self, call: dict[str, Any], latent: Tensor) -> dict[str, Any]:
        """The call with another latent [B, C, 2H, 2W], whose grid may differ."""
        call = super().put_latent(call, latent)
        return call | {"img_ids": torch.nn.functional.pad(call["img_ids"], (0, 1))}

    def put_text(self, call: dict[str, Any], places: list[tuple[int, int]]) -> dict[str, Any]:
        """Refused: the model has an axis of its own for text, and was never given text beside a part of a picture."""
        raise RequestError("FLUX.2's text has an axis of its own; set text_duplication=false")

    def text_ids(self, call: dict[str, Any], place: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Position ids [T, 4] of the text of a picture of `size` tokens whose first is the image token at `place`."""
        return call["txt_ids"] + call["txt_ids"].new_tensor([0, *place, 0])

    def table(self, rope: Rope, geometry: Geometry, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What `pos_embed(ids)` answers with the values of a Rope, for ids [N, 4]."""
        words = base_axis(self.transformer.config.axes_dims_rope[3], geometry.theta)
        return rotary_table(ids, rope, geometry, words)

    def processor(self, attend, stock):
        """What does the work of the processor `stock` and leaves attention to `attend(q, k, v, table, dispatch)`."""
        check_processor(stock, Flux2AttnProcessor, Flux2ParallelSelfAttnProcessor)
        return Processor(attend)

    @staticmethod
    def encode_text(pipe, sentence: str, tokens: int) -> dict[str, Tensor]:
        """The pipeline's arguments that stand for a sentence of at most `tokens` tokens."""
        return {"prompt_embeds": pipe.encode_prompt(sentence, max_sequence_length=tokens)[0]}

    def sample(self, prompt: str, size: tuple[int, int], latent: Tensor, **arguments) -> Tensor:
        """One pass of the stock pipeline from `latent` [1, C, 2H, 2W]; the final latent, in the model's dtype."""
        if arguments.get("negative_prompt"):
            raise RequestError("FLUX.2 takes no negative prompt; use model.negative_prompt=null")
        if self.texts and arguments["guidance"] > 1 and self.pipe.config.get("is_distilled") is False:
            raise RequestError("this checkpoint encodes an empty prompt for its guidance; use model.text_cache=null")
        grid = (latent.shape[-2] // 2, latent.shape[-1] // 2)
        # The pipeline takes packed channels on the grid and packs the grid itself.
        channels = self.pack(latent).transpose(1, 2).unflatten(2, grid)
        width, height = size
        packed = self.pipe(
            **self.words(prompt),
            height=height,
            width=width,
            latents=channels,
            guidance_scale=arguments.pop("guidance"),
            output_type="latent",
            return_dict=False,
            **arguments,
        )[0]
        return self.unpack(packed, grid)

    def decode(self, latent: Tensor) -> Tensor:
        """The picture [B, 3, 8h, 8w] in -1..1 of a latent [B, C, h, w]; float32 if tiled, else as the autoencoder."""
        mean, std = self._statistics(latent := latent.to(compat.execution_device(self.pipe), self.pipe.vae.dtype))
        return super().decode(latent * std + mean)

    def _decode(self, latent: Tensor) -> Tensor:
        return self.pipe.vae.decode(latent, return_dict=False)[0]

    def _normalise(self, latent: Tensor) -> Tensor:
        mean, std = self._statistics(latent)
        return (latent - mean) / std

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each latent channel at each corner of a token, spread over the latent [B, C, h, w]."""
        norm, grid = self.pipe.vae.bn, (like.shape[-2] // 2, like.shape[-1] // 2)
        std = torch.sqrt(norm.running_var + self.pipe.vae.config.batch_norm_eps)
        tokens = (value.to(like).expand(1, grid[0] * grid[1], -1) for value in (norm.running_mean, std))
        mean, std = (self.unpack(value, grid) for value in tokens)
        return mean, std


class Processor:
    """What `Flux2AttnProcessor` and `Flux2ParallelSelfAttnProcessor` compute, with the attention left to a function."""

    def __init__(self, attend):
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
