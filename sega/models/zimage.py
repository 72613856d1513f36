"""Z-Image: how a method meets `ZImageTransformer2DModel` and `ZImagePipeline`.

Docstrings: `sega.models.base`. The pipeline keeps latents unpacked, hands the transformer lists, counts time from noise
to image and negates the velocity; a prompt and its negative share one call. None of this leaves this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_z_image import ZSingleStreamAttnProcessor
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas
from torch import Tensor

from sega.errors import RequestError
from sega.methods.geometry import Geometry
from sega.methods.types import Rope, Stage
from sega.models.calls import check_processor, check_shared, shared_sigma
from sega.models.flux_tables import rotary_table
from sega.models.latents import PackedLatents, TiledAutoencoder
from sega.models.row_ids import image_ids, shifted

PAD = 32  # the model fills image and text up to a multiple of this many tokens


class ZImageAdapter(PackedLatents, TiledAutoencoder):
    """Z-Image: the image first in the joint sequence, from position 0; text before it on the frame axis."""

    family = "zimage"
    rotary_name = "rope_embedder"
    alone = True  # prompts of different lengths in a batch need a mask

    def __init__(self, target: Any):
        super().__init__(target)
        self.tokens = 0  # of the image, in the call that is running

    @property
    def input_layer(self) -> torch.nn.Module:
        return self.transformer.all_x_embedder["2-1"]

    def attention_layers(self) -> list[torch.nn.Module]:
        """The attention modules of the joint sequence; the refiners of image or text alone are left as they are."""
        return [layer.attention for layer in self.transformer.layers]

    def processor(self, attend: Callable[..., Tensor], stock: Any) -> Any:
        check_processor(stock, ZSingleStreamAttnProcessor)
        return Processor(attend, self)

    def rotary_axes(self) -> tuple[tuple[int, ...], float]:
        return tuple(self.transformer.config.axes_dims), float(self.transformer.config.rope_theta)

    def unshifted_sigmas(self, stage: Stage) -> list[float]:
        """As in the interface, in the float32 of the pipeline."""
        return get_default_z_image_sigmas(stage.steps)[stage.first : stage.last]

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a transformer call by name, the images packed as `hidden_states`, their `grid` beside."""
        call = super().bind(args, kwargs)
        images = call.pop("x")
        if isinstance(images[0], list) or len({image.shape for image in images}) > 1:
            raise RequestError("methods work on one image for each prompt, all of one size")
        if call.get("patch_size", 2) != 2 or images[0].shape[1] != 1:
            raise RequestError("methods work on images of one frame in patches of 2x2")
        latent = torch.stack(images).squeeze(2)
        grid = (latent.shape[-2] // 2, latent.shape[-1] // 2)
        return self.put_grid(call | {"hidden_states": self.pack(latent)}, grid)

    def run(self, forward: Callable[..., Any], call: dict[str, Any]) -> Any:
        self.tokens = call["hidden_states"].shape[1]
        latent = self.unpack(call["hidden_states"], call["grid"]).unsqueeze(2)
        stock = {key: value for key, value in call.items() if key not in ("hidden_states", "grid")}
        return forward(x=list(latent.unbind(0)), **stock)

    def grid(self, call: dict[str, Any]) -> tuple[int, int]:
        return call["grid"]

    def sigma(self, call: dict[str, Any]) -> float:
        return shared_sigma(1 - call["t"].float())

    def put_latent(self, call: dict[str, Any], latent: Tensor) -> dict[str, Any]:
        """As in the interface; the two halves of guidance share a latent."""
        return super().put_latent(call, latent.repeat(len(call["hidden_states"]) // len(latent), 1, 1, 1))

    def put_grid(self, call: dict[str, Any], grid: tuple[int, int]) -> dict[str, Any]:
        most = self.transformer.config.axes_lens[1:]
        if any(side > longest for side, longest in zip(grid, most, strict=True)):
            raise RequestError(f"{grid[0]}x{grid[1]} image tokens; Z-Image has {most[0]}x{most[1]} positions")
        return call | {"grid": grid}

    def put_text(self, call: dict[str, Any], places: list[tuple[int, int]]) -> dict[str, Any]:
        """Refused: what tells text tokens apart is the frame axis, whose positions follow from their order."""
        raise RequestError("the places of Z-Image's text follow from its order; set text_duplication=false")

    def samples(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        # The samples of a ControlNet are as long as the longest prompt of the batch makes them.
        check_shared({key: call.get(key) for key in ("controlnet_block_samples", "joint_attention_kwargs")}, "the call")
        keys = ("hidden_states", "t", "cap_feats")
        return [call | {key: call[key][i : i + 1] for key in keys} for i in range(len(call["hidden_states"]))]

    def branches(self, branch: str, count: int) -> list[str]:
        """As in the interface; of two samples, the second is the negative prompt of the first."""
        return [branch] if count == 1 else ["cond", "uncond"] if count == 2 else [f"sample {i}" for i in range(count)]

    def join(self, outputs: list[Any]) -> Any:
        images = [image for out in outputs for image in out[0]]
        return (images,) if isinstance(outputs[0], tuple) else type(outputs[0])(sample=images)

    def image_tokens(self, output: Tensor, call: dict[str, Any], grid: tuple[int, int]) -> Tensor:
        return output.unflatten(0, (len(call["hidden_states"]), -1))[:, : grid[0] * grid[1]]

    def velocity(self, out: Any, grid: tuple[int, int]) -> Tensor:
        return -self.pack(torch.stack(list(out[0])).squeeze(2))

    def ids(self, call: dict[str, Any]) -> Tensor:
        """As in the interface: the tokens that fill up the image, then text, then the image."""
        height, width = call["grid"]
        text = -(-len(call["cap_feats"][0]) // PAD) * PAD
        words = torch.zeros(-(height * width) % PAD + text, 3)
        words[-text:, 0] = torch.arange(1, text + 1)
        image = image_ids((height, width), "cpu")
        image[:, 0] = text + 1
        return torch.cat([words, image]).to(call["hidden_states"].device)

    def text_ids(self, call: dict[str, Any], place: tuple[int, int], size: tuple[int, int]) -> Tensor:
        ids = self.ids(call)[: -call["grid"][0] * call["grid"][1]]
        return shifted(ids, [0, *place])

    def table(self, rope: Rope, geometry: Geometry, *args: Any, **kwargs: Any) -> Tensor:
        """What `rope_embedder(ids)` answers with the values of a Rope: complex64 [N, K]."""
        (ids,) = args
        cos, sin = rotary_table(ids, rope, geometry)
        return torch.complex(cos[:, ::2].contiguous(), sin[:, ::2].contiguous())

    def rotate(self, x: Tensor, table: Tensor) -> Tensor:
        """x [B, N, heads, d] rotated by a table [N, K] or [B, N, K]."""
        rotated = torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * table.unsqueeze(-2)
        return torch.view_as_real(rotated).flatten(-2).type_as(x)

    @staticmethod
    def encode_text(pipe: Any, sentence: str, tokens: int) -> dict[str, Tensor]:
        """As in the interface: [T, C], without padding."""
        (embeds,), _ = pipe.encode_prompt(sentence, do_classifier_free_guidance=False, max_sequence_length=tokens)
        return {"prompt_embeds": embeds}

    def text_arguments(self, sentence: str, prefix: str = "") -> dict[str, Any]:
        """As in the interface; the pipeline takes embeddings as lists, one entry for each prompt."""
        arguments = super().text_arguments(sentence, prefix)
        return arguments if self.texts is None else {key: [value] for key, value in arguments.items()}

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
        """As in the interface, in float32.

        Guidance w is that of this pipeline, v + w (v - v_negative): none at 0, where others write 1.
        """
        text = self.text_arguments(prompt)
        if guidance > 0:
            text |= self.text_arguments(negative_prompt or "", "negative_")
        return self.denoise(size, latent, guidance_scale=guidance, **text, **arguments)

    def latent_channels(self) -> int:
        return self.transformer.config.in_channels

    def to_scheduler(self, latent: Tensor) -> Tensor:
        """The latent itself: this pipeline does not pack."""
        return latent

    def from_scheduler(self, latent: Tensor, grid: tuple[int, int]) -> Tensor:
        return latent


class Processor:
    """What `ZSingleStreamAttnProcessor` computes, with the attention itself left to a function.

    The model's order is image, filling, text; methods get text first, that is filling, text, image.
    """

    def __init__(self, attend: Callable[..., Tensor], adapter: ZImageAdapter):
        self.attend, self.adapter = attend, adapter

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, freqs_cis=None):
        if attention_mask is not None:
            raise RequestError("a method that changes attention can't mask padded text; give one prompt at a time")
        count, length = self.adapter.tokens, hidden_states.shape[1]

        def picture_last(x):
            return x.roll(length - count, dims=1)

        def dense(q, k, v, **options):
            if not q.shape[1] == k.shape[1] == length:
                return dispatch_attention_fn(q, k, v, **options)
            # In the model's own order, so that a method that changes nothing changes no bit.
            own = (x.roll(count, dims=1) for x in (q, k, v))
            return picture_last(dispatch_attention_fn(*own, **options))

        q, k, v = (layer(hidden_states).unflatten(-1, (attn.heads, -1)) for layer in (attn.to_q, attn.to_k, attn.to_v))
        q = q if attn.norm_q is None else attn.norm_q(q)
        k = k if attn.norm_k is None else attn.norm_k(k)
        out = self.attend(*(picture_last(x) for x in (q, k, v, freqs_cis)), dense)
        out = out.roll(count, dims=1).flatten(2, 3).to(q.dtype)
        for layer in attn.to_out:
            out = layer(out)
        return out
