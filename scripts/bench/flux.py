"""Steps of FLUX's transformer with random weights in the stock pipeline, without and with methods."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from scripts.bench.plan import Turn
from scripts.bench.record import Part
from scripts.bench.steps import AnyTime, Enough, Steps, only

PROMPT = "a prompt"  # its embeddings are random


@dataclass(frozen=True)
class Shape:
    """What is built: `config` and `geometry` differ from the published ones."""

    sizes: tuple[int, int] = (2048, 4096)
    config: dict[str, int] = field(default_factory=dict)
    geometry: dict[str, int] = field(default_factory=dict)


FULL = Shape()
SMALL = Shape(
    (256, 512),
    {"num_layers": 1, "num_single_layers": 2, "num_attention_heads": 2, "joint_attention_dim": 128},
    {"train_tokens": 8, "sega_train_tokens": 8, "text_tokens": 32},
)


class Bench:
    """The pipeline without text encoders and autoencoder, and what a record says of it."""

    def __init__(self, device: str, dtype: Any, shape: Shape):
        import torch
        from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

        from scripts.bench.common import product_rate, random_flux
        from sega.loading.folder import Component
        from sega.loading.known import model_config, published
        from sega.methods.geometry import build_geometry
        from sega.models import adapter_for

        self.transformer = random_flux(device, dtype, **shape.config)
        self.pipe = FluxPipeline(
            FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15),
            *([None] * 5),
            self.transformer,
        )
        self.pipe.set_progress_bar_config(disable=True)
        known, config = model_config("flux"), dict(self.transformer.config)
        self.model = known | {
            "dtype": str(dtype).removeprefix("torch."),
            "geometry": known["geometry"] | shape.geometry,
        }
        self.geometry, self.device = build_geometry(self.model["geometry"]), device
        self.config = config | {"_class_name": "FluxTransformer2DModel"}
        self.parameters = sum(parameter.numel() for parameter in self.transformer.parameters())
        self.parts = published(known) | {"transformer": Component(self.parameters, self.config)}
        self.rate = product_rate(device, dtype)
        generator = torch.Generator(device).manual_seed(0)
        lengths = {
            "prompt_embeds": (1, self.geometry.text_tokens, config["joint_attention_dim"]),
            "pooled_prompt_embeds": (1, config["pooled_projection_dim"]),
        }
        text = {
            key: torch.randn(size, generator=generator, device=device, dtype=dtype) for key, size in lengths.items()
        }
        self.adapter = adapter_for(self.pipe)
        self.adapter.configure(texts=lambda sentence: text)

    def flops(self, size: int) -> float:
        """Operations of one call with dense attention."""
        from sega.formulas.flops import call_flops

        side = size // self.geometry.token_pixels
        return call_flops(self.config, side * side, self.geometry.text_tokens)

    def guess(self, turn: Turn) -> float:
        """Seconds a turn will take at most, by its operations."""
        return len(turn.steps) * self.flops(turn.size) / (0.6 * self.rate) + turn.extra

    def turn(self, turn: Turn) -> dict[str, Any]:
        """Run the wanted steps of the last stage of a method, and return what they took."""
        from sega.engine.attachment import Attachment
        from sega.engine.flow import Steering
        from sega.engine.recorder import Observation
        from sega.run import provenance

        image = self._image(turn)
        index = len(image.stages) - 1
        stage, start = image.stages[index], image.noise(image.stages[index].size)
        self._stages_before(image, index, start)
        steps = Steps(turn.steps, self.adapter.device)
        provenance.reset_peak(self.device)
        with ExitStack() as stack:
            attachment = None
            if turn.method is not None:
                parts = image.method.attention(index, image), image.method.flow(index, image)
                steering = Steering(self.adapter, stage, index, start, parts[1], image.predictions, False, None)
                attachment = stack.enter_context(
                    Attachment(self.adapter, image.method, Observation(), parts[0], steering)
                )
            stack.enter_context(self._switched(turn))
            if not turn.cached:
                stack.enter_context(only(self.transformer, steps))
            times = {"sigmas": self.adapter.unshifted_sigmas(stage)} if stage.first else {}
            try:
                self.adapter.sample(
                    PROMPT,
                    stage.size,
                    start,
                    guidance=stage.guidance,
                    num_inference_steps=stage.taken,
                    callback_on_step_end=steps,
                    **times,
                )
            except Enough:
                pass
            row = self._row(turn, steps.seconds(), attachment.steps if attachment else [])
        return row | {"peak_mb": provenance.peak_mb(self.device), "estimate_mb": self._estimate(image.stages)}

    def _image(self, turn: Turn) -> Any:
        """The generation that the wanted steps belong to."""
        from sega.engine.generation import ImageGeneration, seeded
        from sega.methods.registry import build_method
        from sega.methods.types import ImageRequest

        method = build_method({"name": turn.method or "vanilla"}, self.geometry)
        request = ImageRequest((turn.size, turn.size), self.model["steps"], self.model["guidance"])
        own = seeded(0, PROMPT, request.size, "method")
        return ImageGeneration(self.adapter, method, PROMPT, 0, request, method.stages(request), own)

    @staticmethod
    def _stages_before(image: Any, index: int, start: Any) -> None:
        """What the stages before a last one would have left: a guide and predictions."""
        if index:
            image.predictions = AnyTime(image.noise(image.stages[index - 1].size))
            image.guide = start

    @contextmanager
    def _switched(self, turn: Turn) -> Iterator[None]:
        """The transformer with the switches of a turn; compiled blocks stay so."""
        from sega.loading.caching import enable
        from sega.loading.placement import switch

        if turn.cached:
            enable(self.transformer, fast_cache(), self.transformer.dtype)
        switch(self.transformer, turn.attention, turn.compiled)
        try:
            yield
        finally:
            if turn.attention is not None:
                switch(self.transformer, "native", False)  # a reset alone leaves the backend active
            if turn.cached:
                self.transformer.disable_cache()

    def _row(self, turn: Turn, seconds: list[float], calls: list[Any]) -> dict[str, Any]:
        kept = turn.steps[turn.warm :]
        idle = [] if turn.cached else [taken for step, taken in enumerate(seconds[1:], 1) if step not in turn.steps]
        row: dict[str, Any] = {
            "case": turn.case,
            "size": turn.size,
            "flops": self.flops(turn.size),
            "steps": {step: seconds[step] for step in kept},
            "first": [seconds[step] for step in turn.steps[: turn.warm]],
            "idle": statistics.median(idle) if idle else None,
        }
        probes = [call.seconds for call in calls if "probe" in call.details]
        if probes:
            row["probe"] = sum(probes)
            row["steps"][turn.steps[0]] -= row["probe"]
        if turn.cached:
            row["blocks"] = {call.index: call.details["blocks"] for call in calls}
        return row

    def _estimate(self, stages: list[Any]) -> float:
        """The memory plan's estimate of the transformer and one call, without its margin, in MB of 2^20 bytes."""
        from sega.loading.memory import estimate

        found = estimate(self.model, self.parts, stages)
        assert found is not None  # FLUX is a known class
        return (found.transformer + found.activations) / 2**20


def fast_cache() -> Any:
    """The step cache of `speed=fast`, so eager that it leaves out every step it may: random weights decide nothing."""
    from omegaconf import OmegaConf

    from sega.home import CONF
    from sega.loading.caching import read_cache

    cache = read_cache(OmegaConf.select(OmegaConf.load(CONF / "speed" / "fast.yaml"), "model.cache"))
    assert cache is not None
    return cache if cache.kind == "taylorseer" else replace(cache, value=1e9)


def memory(part: Part, device: str, dtype: Any, small: bool) -> None:
    """Run a step with each method at the larger size in a transformer of two blocks: no call needs more with more."""
    from scripts.bench.plan import methods

    shape = SMALL if small else FULL
    bench = Bench(device, dtype, replace(shape, config=shape.config | {"num_layers": 1, "num_single_layers": 1}))
    weights = bench.parameters * bench.transformer.dtype.itemsize / 2**20
    part.note(weights_mb=weights, size=shape.sizes[1])
    for turn in methods(shape.sizes[1]):
        part.measure(turn.case, 2.0, bench.turn, turn)


def measure(part: Part, device: str, dtype: Any, small: bool, names: str = "") -> None:
    """Build the transformer and run the turns of the plan, or those that `names` has."""
    from scripts.bench.plan import chosen, plan

    shape = SMALL if small else FULL
    turns = plan(*shape.sizes)
    turns = chosen(turns, names) if names else turns
    bench = Bench(device, dtype, shape)
    part.note(parameters=bench.parameters, product_rate=bench.rate, text_tokens=bench.geometry.text_tokens)
    for turn in turns:
        part.measure(turn.name, bench.guess(turn), bench.turn, turn)
