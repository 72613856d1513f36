"""FLUX: how a method meets `FluxTransformer2DModel` and `FluxPipeline`.

Shapes: B samples, T text tokens, S image tokens = H*W; packed latents [B, S, 4C], unpacked [B, C, 2H, 2W].
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor, FluxIPAdapterAttnProcessor
from torch import Tensor

from sega import compat
from sega.errors import RequestError
from sega.methods.geometry import Geometry
from sega.methods.types import Rope
from sega.models.base import Adapter, check_processor, check_shared
from sega.models.flux_tables import rotary_table
from sega.models.tiles import OVERLAP, tiled

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


class FluxAdapter(Adapter):
    """One pipeline, or one bare transformer (then `pipe` is None)."""

    family = "flux"

    def __init__(self, target):
        self.pipe = target if hasattr(target, "transformer") else None
        self.transformer = getattr(target, "transformer", target)
        self.signature = inspect.signature(type(self.transformer).forward)
        self.texts = None  # sentence -> embeddings, where they were made before and the pipeline has no encoders
        self.tile: int | None = None  # px: longer sides go through the autoencoder in tiles

    @property
    def input_layer(self) -> torch.nn.Module:
        """The projection whose output is the embedded latent."""
        return self.transformer.x_embedder

    def attention_layers(self) -> list[torch.nn.Module]:
        """Attention modules in the order they run."""
        blocks = [*self.transformer.transformer_blocks, *self.transformer.single_transformer_blocks]
        return [block.attn for block in blocks]

    def bind(self, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a transformer call by name, with position ids in float32.

        The pipeline makes ids in the dtype of the latents. bfloat16 holds no odd integer above 256, so ids that are
        not exact are made anew from the grid, which the first row tells; likewise those of a reference image.
        """
        call = dict(self.signature.bind_partial(self.transformer, *args, **kwargs).arguments)
        call.pop("self")
        img_ids, txt_ids = (ids[0] if ids.dim() == 3 else ids for ids in (call["img_ids"], call["txt_ids"]))
        call["txt_ids"] = txt_ids.float()
        if img_ids.dtype in (torch.bfloat16, torch.float16):
            call["img_ids"] = exact_ids(img_ids)
        else:
            call["img_ids"] = img_ids.float()
        return call

    def grid(self, call: dict[str, Any]) -> tuple[int, int]:
        """Tokens (height, width) of the picture; further image tokens (a reference) do not count."""
        return grid_of_rows(call["img_ids"])

    def sigma(self, call: dict[str, Any]) -> float:
        """The time as the transformer receives it, rounded to its dtype; equal for all samples."""
        times = call["timestep"].float()
        if bool((times != times[0]).any()):
            raise RequestError("the samples of a batch must share their time; call the transformer once per time")
        return min(max(float(times[0]), 0.0), 1.0)

    def samples(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        """The call of a batch as one call per sample."""
        batch, options = len(call["hidden_states"]), call.get("joint_attention_kwargs") or {}
        check_shared({key: options[key] for key in options if key not in IMAGES}, "joint_attention_kwargs")
        calls = [call | {key: _sample(call.get(key), i, batch) for key in BATCHED} for i in range(batch)]
        for i, sample in enumerate(calls if options else ()):
            own = {key: _images(options[key], i, batch) for key in IMAGES if key in options}
            sample["joint_attention_kwargs"] = options | own
        return calls

    def put_latent(self, call: dict[str, Any], latent: Tensor) -> dict[str, Any]:
        """The call with another latent [B, C, 2H, 2W], whose grid may differ."""
        packed = self.pack(latent).to(call["hidden_states"].dtype)
        grid = (latent.shape[-2] // 2, latent.shape[-1] // 2)
        return call | {"hidden_states": packed, "img_ids": image_ids(grid, call["img_ids"].device)}

    def put_text(self, call: dict[str, Any], places: list[tuple[int, int]]) -> dict[str, Any]:
        """The call with copies of the text, one at each (row, column)."""
        text, ids = call["encoder_hidden_states"], call["txt_ids"]
        moved = [ids + ids.new_tensor([0, *place]) for place in places]
        return call | {"encoder_hidden_states": text.repeat(1, len(places), 1), "txt_ids": torch.cat(moved)}

    def ids(self, call: dict[str, Any]) -> Tensor:
        """Position ids [T + S, 3] of the joint sequence, text first."""
        return torch.cat([call["txt_ids"], call["img_ids"]])

    def text_ids(self, call: dict[str, Any], place: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Position ids [T, 3] of the text of a picture of `size` tokens whose first is the image token at `place`."""
        return call["txt_ids"] + call["txt_ids"].new_tensor([0, *place])

    def table(self, rope: Rope, geometry: Geometry, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What `pos_embed(ids)` answers with the values of a Rope."""
        return rotary_table(ids, rope, geometry)

    def rotate(self, x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        """x [B, S, heads, d] turned by a table of S rows."""
        return apply_rotary_emb(x, table, sequence_dim=1)

    def processor(self, attend, stock):
        """What does the work of the processor `stock` and leaves attention to `attend(q, k, v, table, dispatch)`."""
        check_processor(stock, FluxAttnProcessor, FluxIPAdapterAttnProcessor)
        own = Processor(attend)
        return ImageProcessor(own, stock) if isinstance(stock, FluxIPAdapterAttnProcessor) else own

    def pack(self, latent: Tensor) -> Tensor:
        """[B, C, 2H, 2W] -> [B, H*W, 4C], index (channel, dy, dx) within a token."""
        batch, channels, height, width = latent.shape
        cells = latent.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
        return cells.reshape(batch, (height // 2) * (width // 2), 4 * channels)

    def unpack(self, packed: Tensor, grid: tuple[int, int]) -> Tensor:
        """[B, H*W, 4C] -> [B, C, 2H, 2W]."""
        batch, _, channels = packed.shape
        cells = packed.reshape(batch, *grid, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return cells.reshape(batch, channels // 4, 2 * grid[0], 2 * grid[1])

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """[1, C, 2H, 2W] of a picture of (width, height) pixels."""
        width, height = (side // self.pipe.vae_scale_factor for side in size)
        return (1, self.transformer.config.in_channels // 4, height, width)

    @staticmethod
    def encode_text(pipe, sentence: str, tokens: int) -> dict[str, Tensor]:
        """The pipeline's arguments that stand for a sentence of at most `tokens` tokens."""
        embeds, pooled, _ = pipe.encode_prompt(sentence, max_sequence_length=tokens)
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def words(self, sentence: str, prefix: str = "") -> dict[str, Any]:
        """The pipeline's arguments for a sentence, or for a negative one with the prefix "negative_"."""
        if self.texts is None:
            return {f"{prefix}prompt": sentence}
        return {
            prefix + key: value.to(compat.execution_device(self.pipe)) for key, value in self.texts(sentence).items()
        }

    def sample(self, prompt: str, size: tuple[int, int], latent: Tensor, **arguments) -> Tensor:
        """One pass of the stock pipeline from `latent` [1, C, 2H, 2W]; the final latent, in the model's dtype."""
        width, height = size
        guidance = arguments.pop("guidance")
        packed = self.pipe(
            **self.words(prompt),
            height=height,
            width=width,
            latents=self.pack(latent),
            guidance_scale=guidance,
            output_type="latent",
            return_dict=False,
            **arguments,
        )[0]
        return self.unpack(packed, (latent.shape[-2] // 2, latent.shape[-1] // 2))

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """The picture [B, 3, 8h, 8w] in -1..1 of a latent [B, C, h, w]; float32 if tiled, else as the autoencoder."""
        vae = self.pipe.vae
        latent = latent.to(compat.execution_device(self.pipe), vae.dtype)
        return self._in_tiles(self._decode, latent, 1, self.pipe.vae_scale_factor)

    @torch.no_grad()
    def encode(self, picture: Tensor, generator: torch.Generator | None) -> Tensor:
        """The latent [B, C, h, w], float32, of a picture in -1..1: drawn with `generator`, or the mode without."""
        picture = picture.to(compat.execution_device(self.pipe), self.pipe.vae.dtype)
        posterior = DiagonalGaussianDistribution(self._in_tiles(self._moments, picture, self.pipe.vae_scale_factor, 1))
        latent = posterior.mode() if generator is None else posterior.sample(generator)
        return self._normalise(latent.float())

    def _in_tiles(self, run, x: Tensor, cell_in: int, cell_out: int) -> Tensor:
        cell = self.pipe.vae_scale_factor
        if self.tile is None or max(x.shape[-2:]) // cell_in * cell <= self.tile:
            return run(x)
        return tiled(run, x, cell_in, cell_out, self.tile // cell, OVERLAP // cell)

    def _decode(self, latent: Tensor) -> Tensor:
        vae = self.pipe.vae
        return vae.decode(latent / vae.config.scaling_factor + vae.config.shift_factor, return_dict=False)[0]

    def _moments(self, picture: Tensor) -> Tensor:
        """Mean and logarithm of the variance of the posterior, [B, 2C, h, w]."""
        return self.pipe.vae.encode(picture).latent_dist.parameters

    def _normalise(self, latent: Tensor) -> Tensor:
        return (latent - self.pipe.vae.config.shift_factor) * self.pipe.vae.config.scaling_factor

    def to_image(self, picture: Tensor):
        """The PIL image of a decoded picture [1, 3, H, W]."""
        return self.pipe.image_processor.postprocess(picture, output_type="pil")[0]


class Processor:
    """What `FluxAttnProcessor` computes, with the attention itself left to a function."""

    def __init__(self, attend):
        self.attend = attend

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None):
        if attn.fused_projections:
            raise RequestError("unfuse the projections of the transformer before attaching an attention method")
        if attention_mask is not None:
            raise RequestError("an attention method can't be combined with an attention mask")
        heads = (-1, attn.head_dim)
        q, k, v = (layer(hidden_states).unflatten(-1, heads) for layer in (attn.to_q, attn.to_k, attn.to_v))
        q, k = attn.norm_q(q), attn.norm_k(k)
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
            found = dispatch_attention_fn(query, k, v, backend=compat.attention_backend(self.stock))
            added += scale * found.flatten(2, 3).to(query.dtype)
        return image, text, added


def image_ids(grid: tuple[int, int], device) -> Tensor:
    """float32 [H*W, 3]: (0, row, column), row-major."""
    height, width = grid
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float().to(device)


def exact_ids(ids: Tensor) -> Tensor:
    """Row-major ids [S, 3] of one image after the other, in float32, from ids whose large values are rounded."""
    parts = []
    while len(ids):
        height, width = grid_of_rows(ids)
        parts.append(image_ids((height, width), ids.device) + ids[0].float())
        ids = ids[height * width :]
    return torch.cat(parts)


def grid_of_rows(ids: Tensor) -> tuple[int, int]:
    """Tokens (height, width) of row-major image ids [S, 3], right even where large ids are rounded.

    The width is where the row id first changes; tokens of another frame (a reference image) come after the picture.
    """
    own = int((ids[:, 0] == ids[0, 0]).sum())
    other_row = (ids[:own, 1] != ids[0, 1]).nonzero()
    width = int(other_row[0]) if len(other_row) else own
    return own // width, width


def _sample(value, index: int, batch: int):
    if isinstance(value, list | tuple):
        return [_sample(item, index, batch) for item in value]
    return value[index : index + 1] if value is not None and value.dim() and len(value) == batch else value


def _images(value, index: int, batch: int):
    """The images of IP-Adapters for one sample: the processors of diffusers deal them out in equal shares."""
    if not isinstance(value, Tensor):
        return [_images(item, index, batch) for item in value]
    if len(value) % batch:
        raise RequestError(f"an IP-Adapter gets {len(value)} images for a batch of {batch}; give each sample as many")
    return value.chunk(batch)[index]
