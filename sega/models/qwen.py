"""Qwen-Image: how a method meets `QwenImageTransformer2DModel` and `QwenImagePipeline`.

Shapes: B samples, T text tokens, S image tokens = H*W, K pairs of a head; packed latents [B, S, 4C], unpacked
[B, C, 2H, 2W]. The autoencoder is one for video: its latents are [B, C, 1, 2H, 2W], a fact that stays in this file.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_qwenimage import (
    QwenDoubleStreamAttnProcessor2_0,
    apply_rotary_emb_qwen,
)
from torch import Tensor

from sega.errors import RequestError
from sega.methods.base import base_axis
from sega.methods.geometry import Geometry
from sega.methods.types import Axis, Rope
from sega.models.base import check_processor, check_shared
from sega.models.flux import FluxAdapter
from sega.models.qwen_calls import extent, picture_shapes, position_arguments, split, unpadded
from sega.models.qwen_tables import STOCK_ROWS, axis_table, centred_positions, image_table, text_start, text_table


class QwenAdapter(FluxAdapter):
    """One pipeline, or one bare transformer; packing, times and pictures are handled as those of FLUX."""

    family = "qwen"

    def __init__(self, target):
        super().__init__(target)
        self.sentences: dict[str, Tensor] = {}  # sentence -> its embedding [1, T, D], of those that were read

    def check(self, geometry: Geometry) -> None:
        """Refuse a geometry that is not this model's, and layered pictures."""
        if self.transformer.config.get("use_layer3d_rope"):
            raise RequestError("this is a model of layered pictures; methods can be attached to Qwen-Image only")
        super().check(geometry)

    @property
    def input_layer(self) -> torch.nn.Module:
        """The projection whose output is the embedded latent."""
        return self.transformer.img_in

    def attention_layers(self) -> list[torch.nn.Module]:
        """Attention modules in the order they run."""
        return [block.attn for block in self.transformer.transformer_blocks]

    def bind(self, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a transformer call by name."""
        call = dict(self.signature.bind_partial(self.transformer, *args, **kwargs).arguments)
        call.pop("self")
        return call

    def grid(self, call: dict[str, Any]) -> tuple[int, int]:
        """Tokens (height, width) of the picture; reference pictures do not count, except in how far positions go."""
        shapes, text = picture_shapes(call["img_shapes"]), call["encoder_hidden_states"].shape[1]
        frames, height, width = shapes[0]
        if frames != 1:
            raise RequestError(f"methods work on pictures of one frame, not {frames}")
        rows = text_start(extent(shapes)) + text
        if rows > STOCK_ROWS:
            raise RequestError(
                f"{height}x{width} image tokens and {text} text tokens need {rows} positions, but Qwen-Image has "
                f"{STOCK_ROWS}; ask for a smaller picture or a shorter prompt"
            )
        return height, width

    def sigma(self, call: dict[str, Any]) -> float:
        """The time as the transformer receives it; the stock schedule of a single step has none, but 0/0."""
        if not bool(call["timestep"].isfinite().all()):
            raise RequestError("one step is both the first and the last of this model's schedule; use steps=2 or more")
        return super().sigma(call)

    def samples(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        """The call of a batch as one call per sample, each as the pipeline makes it for that prompt alone.

        Where prompts differ in length the pipeline pads the shorter ones and masks the padding; alone they have none.
        """
        check_shared(call.get("attention_kwargs"), "attention_kwargs")
        return [unpadded(sample) for sample in split(call)]

    def put_latent(self, call: dict[str, Any], latent: Tensor) -> dict[str, Any]:
        """The call with another latent [B, C, 2H, 2W], whose grid may differ."""
        shape = (1, latent.shape[-2] // 2, latent.shape[-1] // 2)
        packed = self.pack(latent).to(call["hidden_states"].dtype)
        return call | {"hidden_states": packed, "img_shapes": [[shape]] * len(packed)}

    def put_text(self, call: dict[str, Any], places: list[tuple[int, int]]) -> dict[str, Any]:
        """Refused: the positions of this model's text follow from its order and can't be chosen."""
        raise RequestError(
            "Qwen-Image's text sits on the diagonal behind the picture and can't be repeated at places of its grid; "
            "set text_duplication=false"
        )

    @torch.no_grad()
    def read(self, sentences: tuple[str, ...]) -> None:
        """Encode what `put_sentence` will be asked for. A bare transformer, and a pipeline without encoders, can't."""
        encoders = self.texts is not None or getattr(self.pipe, "text_encoder", None) is not None
        for sentence in set(sentences) - set(self.sentences) if encoders else ():
            words = self.words(sentence) if self.texts else {"prompt_embeds": self.pipe.encode_prompt(sentence)[0]}
            self.sentences[sentence] = words["prompt_embeds"]

    def put_sentence(self, call: dict[str, Any], sentence: str) -> dict[str, Any]:
        """The call with the text of a sentence that was read, unpadded; unchanged where it could not be encoded."""
        if sentence not in self.sentences:
            return call
        like = call["encoder_hidden_states"]
        text = self.sentences[sentence].to(like).expand(len(like), -1, -1)
        lengths = {"txt_seq_lens": [text.shape[1]] * len(like)} if call.get("txt_seq_lens") is not None else {}
        return call | {"encoder_hidden_states": text, "encoder_hidden_states_mask": None} | lengths

    def ids(self, call: dict[str, Any]) -> Tensor:
        """Position ids [T + S, 3] of the joint sequence, text first."""
        if len(picture_shapes(call["img_shapes"])) > 1:
            raise RequestError("a method that changes attention can't be combined with reference pictures")
        return joint_ids(self.grid(call), call["encoder_hidden_states"].shape[1], call["hidden_states"].device)

    def text_ids(self, call: dict[str, Any], place: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Position ids [T, 3] of the text of a picture of `size` tokens whose first is the image token at `place`.

        As far behind the middle of that picture, and on the frame axis, as in one that stands alone.
        """
        ids = joint_ids(size, call["encoder_hidden_states"].shape[1], call["hidden_states"].device)
        corners = zip(place, size, self.grid(call), strict=True)
        return ids[: -size[0] * size[1]] + ids.new_tensor([0, *(p + s - s // 2 - (n - n // 2) for p, s, n in corners)])

    def table(self, rope: Rope, geometry: Geometry, *args, **kwargs) -> tuple[Tensor, Tensor] | Tensor:
        """What `pos_embed` answers to these arguments with the values of a Rope: complex64 [S, K] and [T, K].

        Of position ids [N, 3] in place of these arguments: one table [N, K].
        """
        if args and isinstance(args[0], Tensor):
            return ids_table(args[0], rope, geometry)
        shapes, text, device = position_arguments(*args, **kwargs)
        tables = [image_table((height, width), rope, geometry) for _, height, width in shapes]
        for index, table in enumerate(tables[1:], start=1):  # a reference picture is a further frame
            frame = axis_table(torch.tensor([float(index)]), base_axis(geometry.axes[0], geometry.theta))
            table[:, : frame.shape[1]] = frame
        words = text_table(extent(shapes), text, rope, geometry)
        return torch.cat(tables).to(device), words.to(device)

    def rotate(self, x: Tensor, table: tuple[Tensor, Tensor] | Tensor) -> Tensor:
        """x [B, N, heads, d] turned by a table [N, K], or by those of image and text joined."""
        joint = table if isinstance(table, Tensor) else torch.cat([table[1], table[0]])
        return apply_rotary_emb_qwen(x, joint, use_real=False)

    def processor(self, attend, stock):
        """What does the work of the processor `stock` and leaves attention to `attend(q, k, v, table, dispatch)`."""
        check_processor(stock, QwenDoubleStreamAttnProcessor2_0)
        return Processor(attend)

    @staticmethod
    def encode_text(pipe, sentence: str, tokens: int) -> dict[str, Tensor]:
        """The pipeline's arguments that stand for a sentence of at most `tokens` tokens; alone it has no padding."""
        return {"prompt_embeds": pipe.encode_prompt(sentence, max_sequence_length=tokens)[0]}

    def sample(self, prompt: str, size: tuple[int, int], latent: Tensor, **arguments) -> Tensor:
        """One pass of the stock pipeline from `latent` [1, C, 2H, 2W]; the final latent, in the model's dtype.

        Guidance is true classifier-free guidance, for which there has to be a negative prompt; none at 1 and below.
        """
        width, height = size
        guidance, negative = arguments.pop("guidance"), arguments.pop("negative_prompt", None)
        if guidance > 1 and negative is None:
            raise RequestError(
                f"guidance={guidance:g} is true classifier-free guidance here and needs a negative prompt: give "
                'negative_prompt=" " for an empty one, or guidance=1 for no guidance'
            )
        words = self.words(prompt) | (self.words(negative, "negative_") if guidance > 1 else {})
        packed = self.pipe(
            **words,
            true_cfg_scale=guidance,
            height=height,
            width=width,
            latents=self.pack(latent),
            output_type="latent",
            return_dict=False,
            **arguments,
        )[0]
        return self.unpack(packed, (latent.shape[-2] // 2, latent.shape[-1] // 2))

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and inverse deviation of latents, each [1, C, 1, 1, 1]."""
        config = self.pipe.vae.config
        mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (config.latents_mean, config.latents_std))
        return mean.to(like), 1.0 / std.to(like)

    def _decode(self, latent: Tensor) -> Tensor:
        latent = latent.unsqueeze(2)
        mean, inverse = self._statistics(latent)
        return self.pipe.vae.decode(latent / inverse + mean, return_dict=False)[0][:, :, 0]

    def _moments(self, picture: Tensor) -> Tensor:
        return super()._moments(picture.unsqueeze(2))[:, :, 0]

    def _normalise(self, latent: Tensor) -> Tensor:
        mean, inverse = (value[:, :, 0] for value in self._statistics(latent))
        return (latent - mean) * inverse


class Processor:
    """What `QwenDoubleStreamAttnProcessor2_0` computes, with the attention itself left to a function."""

    def __init__(self, attend):
        self.attend = attend

    def __call__(
        self,
        attn,
        hidden_states,
        encoder_hidden_states=None,
        encoder_hidden_states_mask=None,
        attention_mask=None,
        image_rotary_emb=None,
    ):
        if encoder_hidden_states_mask is not None or attention_mask is not None:
            raise RequestError("a method that changes attention can't mask padded text; give one prompt at a time")
        heads = (-1, attn.inner_dim // attn.heads)
        image = (layer(hidden_states).unflatten(-1, heads) for layer in (attn.to_q, attn.to_k, attn.to_v))
        layers = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        words = (layer(encoder_hidden_states).unflatten(-1, heads) for layer in layers)
        norms = ((attn.norm_added_q, attn.norm_q), (attn.norm_added_k, attn.norm_k), (None, None))
        q, k, v = (
            torch.cat([part if norm is None else norm(part) for part, norm in zip(pair, pair_norms, strict=True)], 1)
            for pair, pair_norms in zip(zip(words, image, strict=True), norms, strict=True)
        )
        out = self.attend(q, k, v, image_rotary_emb, dispatch_attention_fn).flatten(2, 3).to(q.dtype)
        text = encoder_hidden_states.shape[1]
        picture = attn.to_out[1](attn.to_out[0](out[:, text:].contiguous()))
        return picture, attn.to_add_out(out[:, :text].contiguous())


@lru_cache(maxsize=4)
def joint_ids(grid: tuple[int, int], text: int, device) -> Tensor:
    """float32 [T + S, 3] (frame, row, column): text on the diagonal behind the picture, then the picture, centred."""
    rows, columns = torch.meshgrid(*(centred_positions(side) for side in grid), indexing="ij")
    image = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3)
    words = torch.arange(text, dtype=torch.float32)[:, None].expand(-1, 3) + text_start(grid)
    return torch.cat([words, image]).to(device)


def ids_table(ids: Tensor, rope: Rope, geometry: Geometry) -> Tensor:
    """complex64 [N, K] of position ids [N, 3]; those off the picture's frame, which is 0, are text."""
    base = [base_axis(dim, geometry.theta) for dim in geometry.axes]

    def table(axes: list[Axis]) -> Tensor:
        here = [Axis(axis.frequencies.to(ids.device), axis.magnitudes.to(ids.device)) for axis in axes]
        return torch.cat([axis_table(places, axis) for places, axis in zip(ids.T, here, strict=True)], dim=-1)

    own = table([base[0], rope.height, rope.width])
    return own if rope.text == "shared" else torch.where(ids[:, :1] > 0, table(base), own)
