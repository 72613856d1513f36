"""Qwen-Image: how a method meets `QwenImageTransformer2DModel` and `QwenImagePipeline`.

Docstrings: `sega.models.base`. K are the pairs of a head. The autoencoder is one for video: its latents are
[B, C, 1, 2H, 2W], a fact that stays in this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
from sega.models.calls import check_processor, check_shared
from sega.models.latents import PackedLatents, TiledAutoencoder
from sega.models.qwen_calls import extent, picture_shapes, position_arguments, split, unpadded
from sega.models.qwen_tables import STOCK_ROWS, axis_table, centred_positions, image_table, text_start, text_table
from sega.models.row_ids import shifted


class QwenAdapter(PackedLatents, TiledAutoencoder):
    """Qwen-Image: text first in the joint sequence on the diagonal behind the image, whose positions are centred."""

    family = "qwen"

    def __init__(self, target: Any):
        super().__init__(target)
        self.sentences: dict[str, Tensor] = {}  # sentence -> its embedding [1, T, D], of those that were read

    @property
    def input_layer(self) -> torch.nn.Module:
        return self.transformer.img_in

    def attention_layers(self) -> list[torch.nn.Module]:
        return [block.attn for block in self.transformer.transformer_blocks]

    def processor(self, attend: Callable[..., Tensor], stock: Any) -> Any:
        check_processor(stock, QwenDoubleStreamAttnProcessor2_0)
        return Processor(attend)

    def check(self, geometry: Geometry) -> None:
        """Refuse a geometry that is not this model's, and models of layered images."""
        if self.transformer.config.get("use_layer3d_rope"):
            raise RequestError("this is a model of layered images; methods can be attached to Qwen-Image only")
        super().check(geometry)

    def grid(self, call: dict[str, Any]) -> tuple[int, int]:
        """Tokens (height, width) of the image; reference images do not count, except in how far positions go."""
        shapes, text = picture_shapes(call["img_shapes"]), call["encoder_hidden_states"].shape[1]
        frames, height, width = shapes[0]
        if frames != 1:
            raise RequestError(f"methods work on images of one frame, not {frames}")
        rows = text_start(extent(shapes)) + text
        if rows > STOCK_ROWS:
            raise RequestError(
                f"{height}x{width} image tokens and {text} text tokens need {rows} positions, but Qwen-Image has "
                f"{STOCK_ROWS}; ask for a smaller image or a shorter prompt"
            )
        return height, width

    def sigma(self, call: dict[str, Any]) -> float:
        """As in the interface; the stock schedule of a single step has none, but 0/0."""
        sigma = super().sigma(call)
        if math.isnan(sigma):
            raise RequestError("one step is both the first and the last of this model's schedule; use steps=2 or more")
        return sigma

    def put_grid(self, call: dict[str, Any], grid: tuple[int, int]) -> dict[str, Any]:
        return call | {"img_shapes": [[(1, *grid)]] * len(call["hidden_states"])}

    def put_text(self, call: dict[str, Any], places: list[tuple[int, int]]) -> dict[str, Any]:
        """Refused: the positions of this model's text follow from its order and can't be chosen."""
        raise RequestError(
            "Qwen-Image's text sits on the diagonal behind the image and can't be repeated at places of its grid; "
            "set text_duplication=false"
        )

    @torch.no_grad()
    def read(self, sentences: tuple[str, ...]) -> None:
        """As in the interface; a bare transformer, and a pipeline without text encoders, can't."""
        encoders = self.texts is not None or getattr(self.pipe, "text_encoder", None) is not None
        self.sentences |= {sentence: self._embedding(sentence) for sentence in set(sentences) if encoders}

    def _embedding(self, sentence: str) -> Tensor:
        if self.texts is not None:
            return self.text_arguments(sentence)["prompt_embeds"]
        return self.pipe.encode_prompt(sentence)[0]

    def put_sentence(self, call: dict[str, Any], sentence: str) -> dict[str, Any]:
        """The call with the text of a sentence that was read, unpadded; unchanged where it could not be encoded."""
        if sentence not in self.sentences:
            return call
        like = call["encoder_hidden_states"]
        text = self.sentences[sentence].to(like).expand(len(like), -1, -1)
        lengths = {"txt_seq_lens": [text.shape[1]] * len(like)} if call.get("txt_seq_lens") is not None else {}
        return call | {"encoder_hidden_states": text, "encoder_hidden_states_mask": None} | lengths

    def samples(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        """The call of a batch as one call per sample, each as the pipeline makes it for that prompt alone.

        Where prompts differ in length the pipeline pads the shorter ones and masks the padding; alone they have none.
        """
        check_shared(call.get("attention_kwargs"), "attention_kwargs")
        return [unpadded(sample) for sample in split(call)]

    def ids(self, call: dict[str, Any]) -> Tensor:
        if len(picture_shapes(call["img_shapes"])) > 1:
            raise RequestError("a method that changes attention can't be combined with reference images")
        return joint_ids(self.grid(call), call["encoder_hidden_states"].shape[1], call["hidden_states"].device)

    def text_ids(self, call: dict[str, Any], place: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """As in the interface: as far behind the middle of that image, and on the frame axis, as in one that stands
        alone."""
        ids = joint_ids(size, call["encoder_hidden_states"].shape[1], call["hidden_states"].device)
        corners = zip(place, size, self.grid(call), strict=True)
        return shifted(ids[: -size[0] * size[1]], [0, *(p + s - s // 2 - (n - n // 2) for p, s, n in corners)])

    def table(self, rope: Rope, geometry: Geometry, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor] | Tensor:
        """What `pos_embed` answers to these arguments with the values of a Rope: complex64 [S, K] and [T, K].

        Of position ids [N, 3] in place of these arguments: one table [N, K].
        """
        if args and isinstance(args[0], Tensor):
            return ids_table(args[0], rope, geometry)
        shapes, text, device = position_arguments(*args, **kwargs)
        tables = [image_table((height, width), rope, geometry, device) for _, height, width in shapes]
        for index, table in enumerate(tables[1:], start=1):  # a reference image is a further frame
            frame = axis_table(torch.tensor([float(index)]), base_axis(geometry.axes[0], geometry.theta), device)
            table[:, : frame.shape[1]] = frame
        return torch.cat(tables), text_table(extent(shapes), text, rope, geometry, device)

    def rotate(self, x: Tensor, table: tuple[Tensor, Tensor] | Tensor) -> Tensor:
        """x [B, N, heads, d] rotated by a table [N, K], or by those of image and text joined."""
        joint = table if isinstance(table, Tensor) else torch.cat([table[1], table[0]])
        return apply_rotary_emb_qwen(x, joint, use_real=False)

    @staticmethod
    def encode_text(pipe: Any, sentence: str, tokens: int) -> dict[str, Tensor]:
        """As in the interface; alone a sentence has no padding."""
        return {"prompt_embeds": pipe.encode_prompt(sentence, max_sequence_length=tokens)[0]}

    @staticmethod
    def cut_text(pipe: Any, sentence: str, tokens: int) -> list[str]:
        """As in the interface; the end of the template, which is cut too, counts."""
        length = len(pipe.tokenizer(pipe.prompt_template_encode.format(sentence), verbose=False).input_ids)
        most = min(tokens, pipe.tokenizer_max_length)
        return [f"Qwen2.5-VL ({most} tokens)"] if length - pipe.prompt_template_encode_start_idx > most else []

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
        """As in the interface; guidance is classifier-free and needs a negative prompt, and there is none at 1 and
        below."""
        text = self.text_arguments(prompt)
        if guidance > 1:
            if negative_prompt is None:
                raise RequestError(
                    f"guidance={guidance:g} is true classifier-free guidance here and needs a negative prompt: give "
                    'negative_prompt=" " for an empty one, or guidance=1 for no guidance'
                )
            text |= self.text_arguments(negative_prompt, "negative_")
        packed = self.denoise(size, self.pack(latent), true_cfg_scale=guidance, **text, **arguments)
        return self.unpack(packed, (latent.shape[-2] // 2, latent.shape[-1] // 2))

    def normalise(self, latent: Tensor) -> Tensor:
        mean, inverse = self._statistics(latent)
        return (latent - mean) * inverse

    def denormalise(self, latent: Tensor) -> Tensor:
        mean, inverse = self._statistics(latent)
        return latent / inverse + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and inverse deviation of latents, each [1, C, 1, 1]."""
        config = self.pipe.vae.config
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (config.latents_mean, config.latents_std))
        return mean.to(like), 1.0 / std.to(like)

    def decode_tile(self, latent: Tensor) -> Tensor:
        return super().decode_tile(latent.unsqueeze(2))[:, :, 0]

    def encode_tile(self, image: Tensor) -> Tensor:
        return super().encode_tile(image.unsqueeze(2))[:, :, 0]


class Processor:
    """What `QwenDoubleStreamAttnProcessor2_0` computes, with the attention itself left to a function."""

    def __init__(self, attend: Callable[..., Tensor]):
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
        image = attn.to_out[1](attn.to_out[0](out[:, text:].contiguous()))
        return image, attn.to_add_out(out[:, :text].contiguous())


@lru_cache(maxsize=4)
def joint_ids(grid: tuple[int, int], text: int, device) -> Tensor:
    """float32 [T + S, 3] (frame, row, column): text on the diagonal behind the image, then the image, centred."""
    rows, columns = torch.meshgrid(*(centred_positions(side) for side in grid), indexing="ij")
    image = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3)
    words = torch.arange(text, dtype=torch.float32)[:, None].expand(-1, 3) + text_start(grid)
    return torch.cat([words, image]).to(device)


def ids_table(ids: Tensor, rope: Rope, geometry: Geometry) -> Tensor:
    """complex64 [N, K] of position ids [N, 3]; those off the image's frame, which is 0, are text."""
    base = [base_axis(dim, geometry.theta) for dim in geometry.axes]

    def table(axes: list[Axis]) -> Tensor:
        here = [Axis(axis.frequencies.to(ids.device), axis.magnitudes.to(ids.device)) for axis in axes]
        return torch.cat([axis_table(places, axis) for places, axis in zip(ids.T, here, strict=True)], dim=-1)

    own = table([base[0], rope.height, rope.width])
    return own if rope.text == "shared" else torch.where(ids[:, :1] > 0, table(base), own)
