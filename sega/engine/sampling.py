"""Generate one image with a method: its noise, its stages, the decoded image.

Every stage is one call of the stock pipeline, so that all methods and all models run through the same loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from sega.engine.attachment import Attachment
from sega.engine.checks import check_image, check_latent
from sega.engine.flow import Steering
from sega.engine.generation import ImageGeneration, seeded
from sega.engine.late import LateAttention
from sega.engine.recorder import Observation
from sega.engine.trajectory import Trajectory
from sega.errors import RequestError
from sega.methods.base import Method
from sega.methods.sizes import check_size, parse_size
from sega.methods.types import ImageRequest, Stage, Step
from sega.models import adapter_for


class Bases(Protocol):
    """Stores the results of plain first stages so that methods can share them."""

    def claim(self, stage: Stage, prompt: str, seed: int) -> AbstractContextManager[Any]:
        """Held while a base is looked for or made, so that it is made once."""
        ...

    def load(self, stage: Stage, prompt: str, seed: int) -> dict[str, Any] | None:
        """Return a base as it was saved (latent, predictions, seconds, calls, full_calls); None if there is none."""
        ...

    def save(self, stage: Stage, prompt: str, seed: int, base: dict[str, Any]) -> None: ...


@dataclass
class Generated:
    """A finished image and what it cost."""

    image: Any  # PIL image
    seconds: float  # with the part of it that a shared base stage took when it was made
    calls: int  # transformer calls, those of a shared base stage included
    base_seconds: float  # of `seconds`, what was not spent now because the base was there
    steps: list[Step]  # of the stages run now
    full_calls: float | None = None  # `calls`, each as the share of its operations that ran; None where all did


def generate(
    pipe: Any,
    method: Method,
    prompt: str,
    *,
    seed: int = 0,
    size: tuple[int, int] | str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    negative_prompt: str | None = None,
    observe: Observation | None = None,
    bases: Bases | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Generated:
    """Generate one image with a method.

    `size` is in pixels, (width, height), or written as in `res`: "2x", "2048", "2048x1024". Size, steps and guidance
    left out are those of the pipeline's model in `conf/model`; staged methods may set their own steps and guidance.
    Text is padded to the length that the method's geometry names.
    `observe` asks for more in `Generated.steps`; recording costs time, which `seconds` holds too.
    `bases` keeps the results of plain first stages; without it each image makes its own.
    `on_step(stage, taken)` is called after each denoising step with the index of its stage and the steps taken in it; a
    stage taken from `bases` has none.
    How the pipeline is used for all images, with embeddings made before and with a tiled autoencoder, is set once by
    `sega.models.adapter_for(pipe).configure`.
    Raises RequestError for what can't work, FailedImageError for latents with NaN or of one value and for an image of
    one colour.
    """
    adapter = adapter_for(pipe)
    if adapter.pipe is None:
        raise RequestError("generate needs a whole pipeline, not a transformer alone")
    request = _request(pipe, method, size, steps, guidance)
    adapter.check(method.geometry)
    adapter.read(method.sentences())
    own = seeded(seed, prompt, request.size, "method")
    adapter.stepping.check(method)
    stages = adapter.stepping.stages(method, method.stages(request))
    image = ImageGeneration(adapter, method, prompt, seed, request, stages, own)
    passes = _Passes(image, negative_prompt, observe or Observation(), on_step)
    started = time.perf_counter()
    for index, stage in enumerate(image.stages):
        if index == 0 and stage.plain and bases is not None:
            passes.shared(bases)
        else:
            passes.own(index)
    with torch.no_grad():
        finished = adapter.to_image(method.finish(image))
    check_image(finished)
    seconds = time.perf_counter() - started + passes.saved
    partial = adapter.stepping.partial or getattr(adapter.transformer, "is_cache_enabled", False)
    full = passes.full_calls if partial else None
    return Generated(finished, seconds, passes.calls, passes.saved, passes.steps, full)


def _request(
    pipe: Any, method: Method, size: tuple[int, int] | str | None, steps: int | None, guidance: float | None
) -> ImageRequest:
    """What is asked for, with the model's own size, steps and guidance where they were left out."""
    token = method.geometry.token_pixels
    if size is None or isinstance(size, str) or steps is None or guidance is None:
        from sega.loading.known import model_config

        model = model_config(pipe)
        if size is None or isinstance(size, str):
            size = parse_size(size, model["native"], token, "size")
        steps = steps or model["steps"]
        guidance = model["guidance"] if guidance is None else guidance
    check_size(size, token)
    return ImageRequest(size, steps, guidance)


@dataclass
class _Passes:
    """The stages of one image, and what they cost."""

    image: ImageGeneration
    negative_prompt: str | None
    observation: Observation
    on_step: Callable[[int, int], None] | None
    saved: float = 0.0
    calls: int = 0
    full_calls: float = 0.0
    steps: list[Step] = field(default_factory=list)

    def shared(self, bases: Bases) -> None:
        """Take the first stage from the shared bases, or make it and add it to them."""
        image = self.image
        key = (image.stages[0], image.prompt, image.seed)
        with bases.claim(*key):
            base = bases.load(*key)
            if base is None:
                begun = time.perf_counter()
                self.own(0)
                cost = {"seconds": time.perf_counter() - begun, "calls": self.calls, "full_calls": self.full_calls}
                bases.save(*key, {"latent": image.latent, "predictions": image.predictions, **cost})
                return
        image.latent = base["latent"].to(image.device)
        image.predictions = {sigma: value.to(image.device) for sigma, value in base["predictions"].items()}
        self.saved, self.calls, self.full_calls = base["seconds"], base["calls"], base["full_calls"]

    def own(self, index: int) -> None:
        """Run one stage and leave its final latent in `image.latent`."""
        image, stage = self.image, self.image.stages[index]
        adapter = image.adapter
        # A plain stage is the model as it is, whatever the method: any method's base equals any other's.
        method = Method(image.method.geometry) if stage.plain else image.method
        with torch.no_grad():
            start = method.begin(index, image)
        attention, correct = method.attention(index, image), method.flow(index, image)
        stepping = adapter.stepping
        if stepping.late_attention is not None:
            attention = LateAttention(stepping.late_attention, method, image)
        trajectory = Trajectory(stepping, start) if stepping.own_steps else None
        # Read by later stages, or by those of other methods that share this one.
        keep = image.method.staged and (stage.plain or index + 1 < len(image.stages))
        steering = Steering(adapter, stage, index, start, correct, image.predictions, keep, self.on_step, trajectory)
        times = {} if (stage.first, stage.last) == (0, None) else {"sigmas": adapter.unshifted_sigmas(stage)}
        with Attachment(adapter, method, self.observation, attention, steering) as attachment:
            latent = adapter.sample(
                image.prompt + stage.suffix,
                stage.size,
                start,
                guidance=stage.guidance,
                negative_prompt=self.negative_prompt,
                num_inference_steps=stage.taken,
                max_sequence_length=method.geometry.text_tokens,
                **times,
            )
        image.latent = steering.latent() if steering.own else latent
        check_latent(image.latent, f"after stage {index + 1} of {len(image.stages)}")
        self.calls += sum(step.samples for step in attachment.steps)
        self.full_calls += sum(step.samples * step.share for step in attachment.steps)
        self.steps += attachment.steps
