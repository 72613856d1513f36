"""FLUX: how a method meets `FluxTransformer2DModel` and `FluxPipeline`. Docstrings: `sega.models.base`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor, FluxIPAdapterAttnProcessor
from torch import Tensor

from sega.compat import attention_backend
from sega.errors import RequestError
from sega.methods.geometry import Geometry
from sega.methods.types import Rope
from sega.models.calls import Remembered, check_processor, check_shared, one_sample
from sega.models.flux_tables import rotary_table
from sega.models.latents import PackedLatents, TiledAutoencoder
from sega.models.parts import in_parts
from sega.models.row_ids import exact_ids, grid_of_rows, image_ids, shifted

BATCHED = (
    "hidden_states",
    "encoder_hidden_states",
    "pooled_projections",
    "timestep",
    "guidance",
    "controlnet_block_samples",
    "controlnet_single_block_samples",
)
IMAGES = ("ip_adapter_image_embeds", "ip_hidden_states")
"""Lists in `joint_attention_kwargs`: a tensor [N, ...] for each IP-Adapter, N a multiple of B."""


class FluxAdapter(PackedLatents, TiledAutoencoder):
    """FLUX.1: text first in the joint sequence at position 0, the image from position 0."""

    family = "flux"

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
        check_processor(stock, FluxAttnProcessor, FluxIPAdapterAttnProcessor)
        own = Processor(attend)
        return ImageProcessor(own, stock) if isinstance(stock, FluxIPAdapterAttnProcessor) else own

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a transformer call by name, with position ids in float32.

        The pipeline makes ids in the dtype of the latents. bfloat16 holds no odd integer above 256, so ids that are
        not exact are made anew from the grid, which the first row tells; likewise those of a reference image.
        """
        call = super().bind(args, kwargs)
        call["img_ids"], call["txt_ids"] = self.exact(call["img_ids"], call["txt_ids"])
        return call

    def grid(self, call: dict[str, Any]) -> tuple[int, int]:
        return self.grid_of(call["img_ids"])

    def put_grid(self, call: dict[str, Any], grid: tuple[int, int]) -> dict[str, Any]:
        return call | {"img_ids": image_ids(grid, call["img_ids"].device)}

    def put_text(self, call: dict[str, Any], places: list[tuple[int, int]]) -> dict[str, Any]:
        text, ids = call["encoder_hidden_states"], call["txt_ids"]
        moved = [shifted(ids, [0, *place]) for place in places]
        return call | {"encoder_hidden_states": text.repeat(1, len(places), 1), "txt_ids": torch.cat(moved)}

    def samples(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        batch, options = len(call["hidden_states"]), call.get("joint_attention_kwargs") or {}
        check_shared({key: options[key] for key in options if key not in IMAGES}, "joint_attention_kwargs")
        calls = [call | {key: one_sample(call.get(key), i, batch) for key in BATCHED} for i in range(batch)]
        for i, sample in enumerate(calls if options else ()):
            own = {key: _images(options[key], i, batch) for key in IMAGES if key in options}
            sample["joint_attention_kwargs"] = options | own
        return calls

    def ids(self, call: dict[str, Any]) -> Tensor:
        return self.joint(call["txt_ids"], call["img_ids"])

    def text_ids(self, call: dict[str, Any], place: tuple[int, int], size: tuple[int, int]) -> Tensor:
        return shifted(call["txt_ids"], [0, *place])

    def table(self, rope: Rope, geometry: Geometry, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        (ids,) = args
        return rotary_table(ids, rope, geometry)

    def rotate(self, x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        return apply_rotary_emb(x, table, sequence_dim=1)

    @staticmethod
    def encode_text(pipe: Any, sentence: str, tokens: int) -> dict[str, Tensor]:
        embeds, pooled, _ = pipe.encode_prompt(sentence, max_sequence_length=tokens)
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    @staticmethod
    def cut_text(pipe: Any, sentence: str, tokens: int) -> list[str]:
        readers = ("CLIP", pipe.tokenizer, pipe.tokenizer_max_length), ("T5", pipe.tokenizer_2, tokens)
        return [
            f"{name} ({most} tokens)"
            for name, tokenizer, most in readers
            if len(tokenizer(sentence, verbose=False).input_ids) > most
        ]

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
        """As in the interface; guidance is distilled, so the pipeline makes no use of a negative prompt."""
        text = self.text_arguments(prompt)
        if negative_prompt is not None:
            text["negative_prompt"] = negative_prompt
        packed = self.denoise(size, self.pack(latent), guidance_scale=guidance, **text, **arguments)
        return self.unpack(packed, (latent.shape[-2] // 2, latent.shape[-1] // 2))


class Processor:
    """What `FluxAttnProcessor` computes, with the attention itself left to a function."""

    def __init__(self, attend: Callable[..., Tensor]):
        self.attend = attend

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None):
        if attn.fused_projections:
            raise RequestError("unfuse the projections of the transformer before attaching an attention method")
        if attention_mask is not None:
            raise RequestError("an attention method can't be combined with an attention mask")
        heads = (-1, attn.head_dim)
        q, k, v = (layer(hidden_states).unflatten(-1, heads) for layer in (attn.to_q, attn.to_k, attn.to_v))
        q, k = in_parts(attn.norm_q, q), in_parts(attn.norm_k, k)
        text = 0
        if encoder_hidden_states is not None:
            text = encoder_hidden_states.shape[1]
            layers = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
            text_q, text_k, text_v = (layer(encoder_hidden_states).unflatten(-1, heads) for layer in layers)
            q = torch.cat([attn.norm_added_q(text_q), q], dim=1)
            k = torch.cat([attn.norm_added_k(text_k), k], dim=1)
            v = torch.cat([text_v, v], dim=1)
        out = self.attend(q, k, v, image_rotary_emb, dispatch_attention_fn)
        out = out.flatten(2, 3).to(q.dtype)
        if encoder_hidden_states is None:
            return out
        image = attn.to_out[1](attn.to_out[0](out[:, text:].contiguous()))
        return image, attn.to_add_out(out[:, :text].contiguous())


class ImageProcessor(torch.nn.Module):
    """What `FluxIPAdapterAttnProcessor` adds to joint attention: attention to the tokens of images.

    A module that holds the adapter's own, so that offloading finds its weights.
    """

    def __init__(self, joint: Processor, stock: FluxIPAdapterAttnProcessor):
        super().__init__()
        self.joint, self.stock = joint, stock

    def __call__(
        self,
        attn,
        hidden_states,
        encoder_hidden_states=None,
        attention_mask=None,
        image_rotary_emb=None,
        ip_hidden_states=None,
        ip_adapter_masks=None,
    ):
        if ip_hidden_states is None:
            raise RequestError("an IP-Adapter is loaded and needs ip_adapter_image; or call pipe.unload_ip_adapter()")
        image, text = self.joint(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)
        heads, added = (-1, attn.head_dim), torch.zeros_like(image)
        query = attn.norm_q(attn.to_q(hidden_states).unflatten(-1, heads))
        layers = (self.stock.scale, self.stock.to_k_ip, self.stock.to_v_ip)
        for tokens, scale, *to_k_v in zip(ip_hidden_states, *layers, strict=True):
            k, v = (layer(tokens).reshape(len(query), -1, *query.shape[2:]) for layer in to_k_v)
            found = dispatch_attention_fn(query, k, v, backend=attention_backend(self.stock))
            added += scale * found.flatten(2, 3).to(query.dtype)
        return image, text, added


def _exact(img_ids: Tensor, txt_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Position ids [N, 3] of image and text in float32, from those of a call, which may be rounded."""
    img_ids, txt_ids = (ids[0] if ids.dim() == 3 else ids for ids in (img_ids, txt_ids))
    rounded = img_ids.dtype in (torch.bfloat16, torch.float16)
    return exact_ids(img_ids) if rounded else img_ids.float(), txt_ids.float()


def _images(value, index: int, batch: int):
    """The images of IP-Adapters for one sample: the processors of diffusers deal them out in equal shares."""
    if not isinstance(value, Tensor):
        return [_images(item, index, batch) for item in value]
    if len(value) % batch:
        raise RequestError(f"an IP-Adapter gets {len(value)} images for a batch of {batch}; give each sample as many")
    return value.chunk(batch)[index]
