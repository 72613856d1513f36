"""The interface between the engine and a model: everything the engine asks of an adapter.

An adapter is a class for one architecture. It says which parts of the transformer are replaced, translates the
arguments of a transformer call, makes rotary tables, and calls the stock pipeline. Abstract methods have to be
written for every model. The others have a body that holds for most models; override what differs.

A call is a dict: the arguments of the transformer by name, with `hidden_states` [B, S, 4C], the packed latent. Shapes:
B samples, T text tokens, S image tokens = H*W, C latent channels; a latent is [B, C, 2H, 2W], an image [B, 3, h, w] in
-1..1, a grid is (height, width) in tokens, a size is (width, height) in pixels.
"""

from __future__ import annotations

import inspect
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from sega import compat
from sega.errors import RequestError
from sega.methods.geometry import Geometry
from sega.methods.stepping import PLAIN, Stepping
from sega.methods.types import Rope, Stage
from sega.models.calls import shared_sigma
from sega.models.token_line import TokenLine

TextSource = Callable[[str], dict[str, Tensor]]
"""Gives the pipeline's arguments for a sentence, as `encode_text` made them."""


class Adapter(ABC):
    """One pipeline, or one bare transformer (then `pipe` is None)."""

    family: ClassVar[str]
    """The name that `geometry.family` has in the configs of this model."""
    rotary_name: ClassVar[str] = "pos_embed"
    """The attribute of the transformer that makes rotary tables."""
    alone: ClassVar[bool] = False
    """Whether samples of a batch must run one at a time while a method changes attention."""
    windows: ClassVar[bool] = True
    """Whether the pipeline hands on a velocity of another size than asked for, as shifted windows need."""

    def __init__(self, target: Any):
        """`target` is a pipeline or a transformer. The pipeline is not kept alive by its adapter."""
        own = hasattr(target, "transformer")
        self._pipe = weakref.ref(target) if own else None
        self.transformer: Any = target.transformer if own else target
        self.signature = inspect.signature(type(self.transformer).forward)
        self.texts: TextSource | None = None
        self.tile: int | None = None
        self.stepping: Stepping = PLAIN

    @property
    def pipe(self) -> Any:
        """The pipeline; None for a bare transformer."""
        return None if self._pipe is None else self._pipe()

    @property
    def device(self) -> torch.device:
        """Where the pipeline computes."""
        return compat.execution_device(self.pipe)

    def configure(self, *, texts: TextSource | None = None, tile: int | None = None) -> None:
        """How this pipeline is used from now on.

        `texts` gives the embeddings of a sentence; None lets the pipeline encode it. An image with a side longer than
        `tile` pixels goes through the autoencoder in tiles; None decodes and encodes every image as a whole.
        """
        self.texts, self.tile = texts, tile

    # Parts of the transformer

    @property
    @abstractmethod
    def input_layer(self) -> torch.nn.Module:
        """The projection whose output is the embedded latent."""

    @abstractmethod
    def attention_layers(self) -> list[torch.nn.Module]:
        """The attention modules of the joint sequence, in the order they run."""

    @abstractmethod
    def processor(self, attend: Callable[..., Tensor], stock: Any) -> Any:
        """What does the work of the processor `stock` and leaves attention to `attend(q, k, v, table, dispatch)`.

        q, k, v are [B, T + S, heads, d], text first, normalised and not rotated; `table` is what the layer was given
        by the rotary module; `dispatch(q, k, v, scale=..., backend=...)` computes dense attention.
        """

    def rotary_axes(self) -> tuple[tuple[int, ...], float]:
        """Rotary dimensions of frame, height and width, and their base, as the model has them."""
        embed = self.transformer.pos_embed
        return tuple(embed.axes_dim), float(embed.theta)

    def check(self, geometry: Geometry) -> None:
        """Raise RequestError for a geometry that is not this model's."""
        ours = (geometry.family, tuple(geometry.axes), float(geometry.theta))
        theirs = (self.family, *self.rotary_axes())
        if ours != theirs:
            raise RequestError(
                f"the method was made for family, axes, theta = {ours}, the model has {theirs}; "
                "load the method with the name of this model"
            )

    # The arguments of one transformer call

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a transformer call by name."""
        call = dict(self.signature.bind_partial(self.transformer, *args, **kwargs).arguments)
        call.pop("self")
        return call

    def run(self, forward: Callable[..., Any], call: dict[str, Any]) -> Any:
        """The output of the transformer for a call; undoes what `bind` changed."""
        return forward(**call)

    @abstractmethod
    def grid(self, call: dict[str, Any]) -> tuple[int, int]:
        """Tokens (height, width) of the image; further image tokens (a reference image) do not count."""

    def sigma(self, call: dict[str, Any]) -> float:
        """The sigma as the transformer receives it, rounded to its dtype; equal for all samples."""
        return shared_sigma(call["timestep"])

    def latent(self, call: dict[str, Any], grid: tuple[int, int]) -> Tensor:
        """The packed latent [B, H*W, 4C] of the image in a call, without references and further channels."""
        config = self.transformer.config
        channels = (config.get("out_channels") or 0) * (config.get("patch_size") or 1) ** 2
        return call["hidden_states"][:, : grid[0] * grid[1], : channels or None]

    @abstractmethod
    def put_latent(self, call: dict[str, Any], latent: Tensor) -> dict[str, Any]:
        """The call with another latent [B, C, 2H, 2W], whose grid may differ."""

    @abstractmethod
    def put_text(self, call: dict[str, Any], places: list[tuple[int, int]]) -> dict[str, Any]:
        """The call with copies of the text, one at each position (row, column); RequestError where a model can't."""

    def read(self, sentences: tuple[str, ...]) -> None:  # noqa: B027 (not abstract: few models need it)
        """Encode what `put_sentence` will be asked for, before the transformer runs."""

    def put_sentence(self, call: dict[str, Any], sentence: str) -> dict[str, Any]:
        """The call with the text of a sentence that was read; unchanged where it could not be encoded."""
        return call

    # A batch as one call per sample

    @abstractmethod
    def samples(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        """The call of a batch as one call per sample."""

    def branches(self, branch: str, count: int) -> list[str]:
        """The branch of guidance of each of `count` samples; `branch` is that of the call."""
        return [branch] * count

    def join(self, outputs: list[Any]) -> Any:
        """The output for a batch from those for its samples."""
        if isinstance(outputs[0], tuple):
            return tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))
        return type(outputs[0])(sample=torch.cat([out.sample for out in outputs]))

    # What the transformer makes of a call

    def image_tokens(self, output: Tensor, call: dict[str, Any], grid: tuple[int, int]) -> Tensor:
        """The embedded tokens [B, H*W, D] of the image in the output of the input projection."""
        return output[:, : grid[0] * grid[1]]

    def velocity(self, out: Any, grid: tuple[int, int]) -> Tensor:
        """The packed velocity [B, H*W, 4C], towards noise, in an output of the transformer."""
        return out[0][:, : grid[0] * grid[1]]

    # Positions

    @abstractmethod
    def ids(self, call: dict[str, Any]) -> Tensor:
        """Position ids, float32 [T + S, 3] (frame, row, column) of the joint sequence, text first."""

    @abstractmethod
    def text_ids(self, call: dict[str, Any], place: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Position ids [T, 3] of the text of a smaller image of `size` tokens whose first is the image token at
        `place`, so that the two are to each other as they are in training."""

    @abstractmethod
    def table(self, rope: Rope, geometry: Geometry, *args: Any, **kwargs: Any) -> Any:
        """What the stock rotary module answers to these arguments, with the values of a Rope.

        Position ids [N, 3] are always understood, also where the stock module takes something else.
        """

    @abstractmethod
    def rotate(self, x: Tensor, table: Any) -> Tensor:
        """x [B, N, heads, d] rotated by a table of N rows."""

    # Sigmas

    def shift(self, geometry: Geometry) -> TokenLine:
        """How the pipeline draws the time shift from the size of the image."""
        return TokenLine(self.pipe.scheduler.config)

    def unshifted_sigmas(self, stage: Stage) -> list[float]:
        """The sigmas of a stage before the shift, as the pipeline itself would list them."""
        return stage.grid()

    # The stock pipeline

    @staticmethod
    @abstractmethod
    def encode_text(pipe: Any, sentence: str, tokens: int) -> dict[str, Tensor]:
        """The pipeline's arguments that stand for a sentence of at most `tokens` tokens.

        `pipe` may lack a transformer.
        """

    @staticmethod
    def cut_text(pipe: Any, sentence: str, tokens: int) -> list[str]:
        """The encoders that read a sentence only in part, such as "CLIP (77 tokens)"; [] where it is not counted."""
        return []

    def text_arguments(self, sentence: str, prefix: str = "") -> dict[str, Any]:
        """The pipeline's arguments for a sentence, or for a negative one with the prefix "negative_"."""
        if self.texts is None:
            return {f"{prefix}prompt": sentence}
        return {prefix + key: value.to(self.device) for key, value in self.texts(sentence).items()}

    @abstractmethod
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
        """One pass of the stock pipeline from `latent`; the final latent [1, C, 2H, 2W].

        `arguments` are the pipeline's own: num_inference_steps, max_sequence_length, sigmas.
        """

    def denoise(self, size: tuple[int, int], latents: Tensor, **arguments: Any) -> Tensor:
        """Call the pipeline for a latent instead of an image; both in the pipeline's own form."""
        width, height = size
        return self.pipe(
            height=height, width=width, latents=latents, output_type="latent", return_dict=False, **arguments
        )[0]

    @abstractmethod
    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """[1, C, 2H, 2W] of an image of (width, height) pixels."""

    @abstractmethod
    def pack(self, latent: Tensor) -> Tensor:
        """[B, C, 2H, 2W] -> [B, H*W, 4C]."""

    @abstractmethod
    def unpack(self, packed: Tensor, grid: tuple[int, int]) -> Tensor:
        """[B, H*W, 4C] -> [B, C, 2H, 2W]."""

    def to_scheduler(self, latent: Tensor) -> Tensor:
        """A latent [B, C, 2H, 2W] as `scheduler.step` takes it: packed, unless the pipeline keeps another form."""
        return self.pack(latent)

    def from_scheduler(self, latent: Tensor, grid: tuple[int, int]) -> Tensor:
        """The inverse of `to_scheduler`."""
        return self.unpack(latent, grid)

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """The image [B, 3, h, w] in -1..1 of a latent; float32 if tiled, else in the dtype of the autoencoder."""

    @abstractmethod
    def encode(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        """The latent, float32, of an image in -1..1: drawn with `generator`, or the mode of the posterior without."""

    def to_image(self, image: Tensor) -> Any:
        """The PIL image of a decoded image [1, 3, h, w]."""
        return self.pipe.image_processor.postprocess(image, output_type="pil")[0]
