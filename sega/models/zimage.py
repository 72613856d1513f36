"""Z-Image: how a method meets `ZImageTransformer2DModel` and `ZImagePipeline`.

Shapes: B samples, T text tokens, S image tokens = H*W; packed latents [B, S, 4C], unpacked [B, C, 2H, 2W]. The pipeline
keeps latents unpacked, hands the transformer lists, counts time from noise to picture and negates the velocity; a
prompt and its negative share one call. None of this leaves this file.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_z_image import ZSingleStreamAttnProcessor
from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas
from torch import Tensor

from sega.errors import RequestError
from sega.methods.geometry import Geometry
from sega.methods.types import Rope, Stage
from sega.models.base import check_processor, check_shared
from sega.models.flux import FluxAdapter, image_ids
from sega.models.flux_tables import rotary_table

PAD = 32  # the model fills image and text up to a multiple of this many tokens


class ZImageAdapter(FluxAdapter):
    """One pipeline, or one bare transformer; pictures and the grid of a token are handled as those of FLUX."""

    family = "zimage"
    positions = "rope_embedder"
    alone = True  # prompts of different lengths in a batch need a mask

    def rotary(self) -> tuple[tuple[int, ...], float]:
        """Rotary dimensions of frame, height and width, and their base, as the model has them."""
        return tuple(self.transformer.config.axes_dims), float(self.transformer.config.rope_theta)

    def __init__(self, target):
        super().__init__(target)
        self.tokens = 0  # of the picture, in the call that is running

    @property
    def input_layer(self) -> torch.nn.Module:
        """The projection whose output is the embedded latent."""
        return self.transformer.all_x_embedder["2-1"]

    def attention_layers(self) -> list[torch.nn.Module]:
        """Attention modules of the joint sequence; the refiners of image or text alone are left as they are."""
        return [layer.attention for layer in self.transformer.layers]

    def times(self, stage: Stage) -> list[float]:
        """The unshifted times of a stage as the pipeline itself would list them, in its float32."""
        return get_default_z_image_sigmas(stage.steps)[stage.first : stage.last]

    def bind(self, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a transformer call by name, the pictures packed as `hidden_states`, their `grid` beside."""
        call = dict(self.signature.bind_partial(self.transformer, *args, **kwargs).arguments)
        call.pop("self")
        pictures = call.pop("x")
        if isinstance(pictures[0], list) or len({picture.shape for picture in pictures}) > 1:
            raise RequestError("methods work on one picture for each prompt, all of one size")
        if call.get("patch_size", 2) != 2 or pictures[0].shape[1] != 1:
            raise RequestError("methods work on pictures of one frame in patches of 2x2")
        return self._with_latent(call, torch.stack(pictures).squeeze(2))

    def _with_latent(self, call: dict[str, Any], latent: Tensor) -> dict[str, Any]:
        grid, most = (latent.shape[-2] // 2, latent.shape[-1] // 2), self.transformer.config.axes_lens[1:]
        if any(side > longest for side, longest in zip(grid, most, strict=True)):
            raise RequestError(f"{grid[0]}x{grid[1]} image tokens; Z-Image has {most[0]}x{most[1]} positions")
        return call | {"hidden_states": super().pack(latent), "grid": grid}

    def grid(self, call: dict[str, Any]) -> tuple[int, int]:
        """Tokens (height, width) of the picture."""
        return call["grid"]

    def sigma(self, call: dict[str, Any]) -> float:
        """The time as the transformer receives it, rounded to its dtype; equal for all samples."""
        return super().sigma({"timestep": 1 - call["t"].float()})

    def samples(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        """The call of a batch as one call per sample."""
        # The samples of a ControlNet are as long as the longest prompt of the batch makes them.
        check_shared({key: call.get(key) for key in ("controlnet_block_samples", "joint_attention_kwargs")}, "the call")
        keys = ("hidden_states", "t", "cap_feats")
        return [call | {key: call[key][i : i + 1] for key in keys} for i in range(len(call["hidden_states"]))]

    def run(self, forward, call: dict[str, Any]):
        """The transformer's output for a call."""
        self.tokens = call["hidden_states"].shape[1]
        latent = self.unpack(call["hidden_states"], call["grid"]).unsqueeze(2)
        stock = {key: value for key, value in call.items() if key not in ("hidden_states", "grid")}
        return forward(x=list(latent.unbind(0)), **stock)

    def velocity(self, out, grid: tuple[int, int]) -> Tensor:
        """The packed velocity [B, H*W, 4C], from picture to noise, in an output of the transformer."""
        return -super().pack(torch.stack(list(out[0])).squeeze(2))

    def join(self, outputs: list):
        """The output for a batch from those for its samples."""
        pictures = [picture for out in outputs for picture in out[0]]
        return (pictures,) if isinstance(outputs[0], tuple) else type(outputs[0])(sample=pictures)

    def embedded(self, output: Tensor, call: dict[str, Any], grid: tuple[int, int]) -> Tensor:
        """The embedded tokens [B, H*W, C] of the picture in the output of the input projection."""
        return output.unflatten(0, (len(call["hidden_states"]), -1))[:, : grid[0] * grid[1]]

    def put_latent(self, call: dict[str, Any], latent: Tensor) -> dict[str, Any]:
        """The call with another latent [B, C, 2H, 2W], whose grid may differ; the two halves of guidance share it."""
        copies = len(call["hidden_states"]) // len(latent)
        return self._with_latent(call, latent.to(call["hidden_states"].dtype).repeat(copies, 1, 1, 1))

    def put_text(self, call: dict[str, Any], places: list[tuple[int, int]]) -> dict[str, Any]:
        """Refused: what tells text tokens apart is the frame axis, whose places follow from their order."""
        raise RequestError("the places of Z-Image's text follow from its order; set text_duplication=false")

    def ids(self, call: dict[str, Any]) -> Tensor:
        """Position ids [T + S, 3] of the joint sequence: the tokens that fill up the picture, text, the picture."""
        height, width = call["grid"]
        text = -(-len(call["cap_feats"][0]) // PAD) * PAD
        words = torch.zeros(-(height * width) % PAD + text, 3)
        words[-text:, 0] = torch.arange(1, text + 1)
        image = image_ids((height, width), "cpu")
        image[:, 0] = text + 1
        return torch.cat([words, image]).to(call["hidden_states"].device)

    def text_ids(self, call: dict[str, Any], place: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Position ids [T, 3] of the text of a picture of `size` tokens whose first is the image token at `place`."""
        ids = self.ids(call)[: -call["grid"][0] * call["grid"][1]]
        return ids + ids.new_tensor([0, *place])

    def table(self, rope: Rope, geometry: Geometry, ids: Tensor) -> Tensor:
        """What `rope_embedder(ids)` answers with the values of a Rope: complex64 [N, K]."""
        cos, sin = rotary_table(ids, rope, geometry)
        return torch.complex(cos[:, ::2].contiguous(), sin[:, ::2].contiguous())

    def rotate(self, x: Tensor, table: Tensor) -> Tensor:
        """x [B, N, heads, d] turned by a table [N, K] or [B, N, K]."""
        turned = torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * table.unsqueeze(-2)
        return torch.view_as_real(turned).flatten(-2).type_as(x)

    def processor(self, attend, stock):
        """What does the work of the processor `stock` and leaves attention to `attend(q, k, v, table, dispatch)`."""
        check_processor(stock, ZSingleStreamAttnProcessor)
        return Processor(attend, self)

    def branches(self, branch: str, count: int) -> list[str]:
        """Names for the samples of a batch; of two, the second is the negative prompt of the first."""
        return [branch] if count == 1 else ["cond", "uncond"] if count == 2 else [f"sample {i}" for i in range(count)]

    @staticmethod
    def encode_text(pipe, sentence: str, tokens: int) -> dict[str, Tensor]:
        """The pipeline's arguments that stand for a sentence of at most `tokens` tokens: [T, C], without padding."""
        (embeds,), _ = pipe.encode_prompt(sentence, do_classifier_free_guidance=False, max_sequence_length=tokens)
        return {"prompt_embeds": embeds}

    def words(self, sentence: str, prefix: str = "") -> dict[str, Any]:
        """The pipeline's arguments for a sentence, or for a negative one with the prefix "negative_"."""
        words = super().words(sentence, prefix)
        return words if self.texts is None else {key: [value] for key, value in words.items()}

    def sample(self, prompt: str, size: tuple[int, int], latent: Tensor, **arguments) -> Tensor:
        """One pass of the stock pipeline from `latent` [1, C, 2H, 2W]; the final latent, in float32.

        Guidance w is that of this pipeline, v + w (v - v_negative): none at 0, where others write 1.
        """
        width, height = size
        guidance, negative = arguments.pop("guidance"), arguments.pop("negative_prompt", None)
        words = self.words(prompt) | (self.words(negative or "", "negative_") if guidance > 0 else {})
        return self.pipe(
            **words,
            guidance_scale=guidance,
            height=height,
            width=width,
            latents=latent,
            output_type="latent",
            return_dict=False,
            **arguments,
        )[0]

    def pack(self, latent: Tensor) -> Tensor:
        """The latent as the pipeline keeps it, which is unpacked."""
        return latent

    def unpack(self, packed: Tensor, grid: tuple[int, int]) -> Tensor:
        """[B, H*W, 4C] -> [B, C, 2H, 2W]; a latent of the pipeline, which is unpacked, as it is."""
        return packed if packed.dim() == 4 else super().unpack(packed, grid)

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """[1, C, 2H, 2W] of a picture of (width, height) pixels."""
        width, height = (side // self.pipe.vae_scale_factor for side in size)
        return (1, self.transformer.config.in_channels, height, width)


class Processor:
    """What `ZSingleStreamAttnProcessor` computes, with the attention itself left to a function.

    The model's order is picture, filling, text; methods get text first, that is filling, text, picture.
    """

    def __init__(self, attend, adapter: ZImageAdapter):
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
