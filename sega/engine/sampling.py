"""The generation of one image: its noise, its stages, its picture.

Every stage is one call of the stock pipeline, so that all methods and all models run through the same loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from sega.engine.attachment import Attachment
from sega.engine.checks import check_image, check_latent
from sega.engine.noise import noise_seed
from sega.engine.timeshift import stage_sigmas
from sega.errors import RequestError
from sega.methods.base import Method
from sega.methods.sizes import check_size
from sega.methods.types import Request, Stage, Step
from sega.models import adapter_for


def seeded(seed: int, prompt: str, size: tuple[int, int], purpose: str = "noise") -> torch.Generator:
    """A CPU generator for one purpose of one image, so that values do not depend on the device."""
    return torch.Generator("cpu").manual_seed(noise_seed(seed, prompt, size, purpose))


class Bases(Protocol):
    """Where the results of plain first stages are kept, so that methods can share them."""

    def claim(self, stage: Stage, prompt: str, seed: int) -> AbstractContextManager: ...

    def load(self, stage: Stage, prompt: str, seed: int) -> dict[str, Any] | None: ...

    def save(self, stage: Stage, prompt: str, seed: int, base: dict[str, Any]) -> None: ...


@dataclass
class Run:
    """One image on its way: what the parts of a method may read and use."""

    adapter: Any
    method: Method
    prompt: str
    seed: int
    request: Request
    stages: list[Stage]
    keep: bool  # whether clean predictions are stored
    generator: torch.Generator  # for all randomness besides the noise, seeded by the image
    on_step: Callable[[int, int], None] | None = None  # told of each step: index of the stage, steps taken in it
    latent: Tensor | None = None  # of the last stage done [1, C, 2H, 2W]
    start: Tensor | None = None  # what the running stage started from, float32
    guide: Tensor | None = None  # a clean latent that `begin` may leave for the flow of the same stage
    predictions: dict[float, Tensor] = field(default_factory=dict)  # time -> clean prediction [1, C, h, w]

    @property
    def device(self) -> torch.device:
        return self.adapter.device

    @property
    def double_layers(self) -> int:
        """How many of the attention layers, the first ones, have weights of their own for text."""
        return len(self.adapter.transformer.transformer_blocks)

    def noise(self, size: tuple[int, int]) -> Tensor:
        """The noise of this seed and prompt at a size in pixels: float32 [1, C, 2H, 2W], the same for every method."""
        generator = seeded(self.seed, self.prompt, size)
        return torch.randn(self.adapter.latent_shape(size), generator=generator).to(self.device)

    def random(self, shape: tuple[int, ...]) -> Tensor:
        """Fresh Gaussian values from the image's own generator."""
        return torch.randn(shape, generator=self.generator).to(self.device)

    def sigmas(self, index: int) -> list[float]:
        """The times of a stage, and the final 0."""
        stage = self.stages[index]
        _, _, height, width = self.adapter.latent_shape(stage.size)
        adapter = self.adapter
        line, times = adapter.shift(self.method.geometry), adapter.times(stage)
        return stage_sigmas(adapter.pipe.scheduler, stage, height * width // 4, line, times)

    def decode(self, latent: Tensor) -> Tensor:
        """The picture [1, 3, H, W] in -1..1 of a latent, in the dtype of the autoencoder."""
        return self.adapter.decode(latent)

    def encode(self, picture: Tensor, sample: bool = False) -> Tensor:
        """The latent of a picture, float32: the mode of the posterior, or drawn with the image's generator."""
        return self.adapter.encode(picture, self.generator if sample else None)


@dataclass
class Generated:
    """A finished image and what it cost."""

    image: Any  # PIL image
    seconds: float  # with the part of it that a shared base stage took when it was made
    calls: int  # transformer calls, those of a shared base stage included
    base_seconds: float  # of `seconds`, what was not spent now because the base was there
    steps: list[Step]  # of the stages run now


def generate(
    pipe,
    method: Method,
    prompt: str,
    seed: int = 0,
    size: tuple[int, int] | str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    negative_prompt: str | None = None,
    bases: Bases | None = None,
    record: tuple[str, ...] = (),
    exact_time: bool = False,
    query: tuple[float, float] = (0.5, 0.5),
    texts: Callable[[str], dict[str, Tensor]] | None = None,
    tile: int | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Generated:
    """Generate one image with a method.

    `size` is in pixels, (width, height), or written as in `res`: "2x", "2048", "2048x1024". Size, steps and guidance
    left out are those of the pipeline's model in `conf/model`; staged methods may set their own steps and guidance.
    Text is padded to the length the method's geometry names.
    Raises FailedImageError for latents with NaN or of one value, and for a picture of one colour.
    `record` and `query` are those of `attach`; recording costs time, which `seconds` holds too.
    `texts` gives the embeddings of a sentence where the pipeline has no text encoders; pictures with a side longer than
    `tile` px go through the autoencoder in tiles. `on_step(stage, taken)` is called after each denoising step with the
    index of its stage and the steps taken in it; a stage taken from `bases` has none.
    """
    adapter = adapter_for(pipe)
    adapter.configure(texts=texts, tile=tile)
    if adapter.pipe is None:
        raise RequestError("generate needs a whole pipeline, not a transformer alone")
    if size is None or isinstance(size, str) or steps is None or guidance is None:
        from sega.loading.known import model_config
        from sega.methods.sizes import parse_size

        model, token = model_config(pipe), method.geometry.token_pixels
        size = parse_size(size, model["native"], token, "size") if size is None or isinstance(size, str) else size
        steps, guidance = steps or model["steps"], model["guidance"] if guidance is None else guidance
    check_size(size, method.geometry.token_pixels)
    request = Request(size, steps, guidance)
    stages = method.stages(request)
    own = seeded(seed, prompt, size, "method")
    run = Run(adapter, method, prompt, seed, request, stages, method.staged, own, on_step)
    arguments: dict[str, Any] = {"max_sequence_length": method.geometry.text_tokens}
    if negative_prompt is not None:
        arguments["negative_prompt"] = negative_prompt
    passes = _Passes(run, arguments, record, exact_time, query)
    started = time.perf_counter()
    for index, stage in enumerate(stages):
        if index == 0 and stage.plain and bases is not None:
            passes.shared(bases)
        else:
            passes.own(index)
    with torch.no_grad():
        image = adapter.to_image(method.finish(run))
    check_image(image)
    seconds = time.perf_counter() - started + passes.saved
    return Generated(image, seconds, passes.calls, passes.saved, passes.steps)


@dataclass
class _Passes:
    """The stages of one image, and what they cost."""

    run: Run
    arguments: dict[str, Any]  # of the pipeline
    record: tuple[str, ...]
    exact_time: bool
    query: tuple[float, float]
    saved: float = 0.0
    calls: int = 0
    steps: list[Step] = field(default_factory=list)

    def shared(self, bases: Bases) -> None:
        """The first stage, taken from the shared bases or added to them."""
        run, key = self.run, (self.run.stages[0], self.run.prompt, self.run.seed)
        with bases.claim(*key):
            base = bases.load(*key)
            if base is None:
                begun = time.perf_counter()
                self.own(0)
                cost = {"seconds": time.perf_counter() - begun, "calls": self.calls}
                bases.save(*key, {"latent": run.latent, "predictions": run.predictions, **cost})
                return
        run.latent = base["latent"].to(run.device)
        run.predictions = {sigma: value.to(run.device) for sigma, value in base["predictions"].items()}
        self.saved, self.calls = base["seconds"], base["calls"]

    def own(self, index: int) -> None:
        """One stage: from its start to its final latent, left in `run.latent`."""
        run, stage = self.run, self.run.stages[index]
        # A plain stage is the model as it is, whatever the method: any method's base equals any other's.
        method = Method(run.method.geometry) if stage.plain else run.method
        with torch.no_grad():
            run.start = method.begin(index, run)
        times = {} if (stage.first, stage.last) == (0, None) else {"sigmas": run.adapter.times(stage)}
        with Attachment(
            run.adapter.pipe, method, self.record, self.exact_time, stage, index, run, self.query
        ) as attachment:
            latent = run.adapter.sample(
                run.prompt + stage.suffix,
                stage.size,
                run.start,
                guidance=stage.guidance,
                num_inference_steps=stage.taken,
                **times,
                **self.arguments,
            )
            run.latent = attachment.steering.latent() if attachment.steering.own else latent
        check_latent(run.latent, f"after stage {index + 1} of {len(run.stages)}")
        self.calls += sum(step.samples for step in attachment.steps)
        self.steps += attachment.steps
