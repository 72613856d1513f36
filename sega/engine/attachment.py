"""Put a method on a stock diffusers model, and take it off without a trace.

What is touched, all on the instance: what makes rotary tables (`transformer.pos_embed`), the call of the transformer
(`_call_impl`, what `transformer(...)` runs; `forward` belongs to offloading and caches), `transformer.cache_context`
and `scheduler.set_timesteps`; where a method has a flow, also `scheduler.step`. Only while the transformer runs there
are a hook on the input projection and other attention processors, so that between calls adapters come and go freely.
The hook gets its tokens in time because every transformer embeds the latent before it makes rotary tables.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sega import compat
from sega.engine.clock import Clock
from sega.engine.flow import Steering
from sega.engine.patches import Patches, is_patched
from sega.engine.recorder import Watch, latent_spectrum
from sega.engine.timeshift import pin_shift
from sega.errors import RequestError
from sega.loading import parallel
from sega.methods.base import Attention, Method
from sega.methods.types import Call, Rope, Stage, Step
from sega.models import adapter_for, check_whole

DETAILS = ("profiles", "magnitudes", "tokens", "latent", "spectrum", "attention")


def attach(
    target,
    method: Method,
    record: Iterable[str] = (),
    exact_time: bool = False,
    query: tuple[float, float] = (0.5, 0.5),
) -> Attachment:
    """Attach a method to a pipeline or a transformer; `with attach(pipe, method): ...`, or call `.remove()`.

    `record` asks for more in the records of `.steps`: any of profiles, magnitudes, tokens, latent, spectrum, attention
    (of the token at `query`, a place (x, y) as fractions of the picture). The time a method sees is the one the
    transformer receives, rounded to its dtype; `exact_time` reads it from the scheduler instead.
    """
    if method.staged:
        raise RequestError(
            f"{method.name} goes through several stages and can't be attached by hand; "
            "use sega.engine.sampling.generate(pipe, method, prompt, ...)"
        )
    return Attachment(target, method, record=record, exact_time=exact_time, query=query)


class Attachment:
    """A method on a model. `steps` holds one Step per transformer call of the last generation."""

    def __init__(
        self,
        target,
        method: Method,
        record: Iterable[str] = (),
        exact_time: bool = False,
        stage: Stage | None = None,
        index: int = 0,
        run: Any = None,
        query: tuple[float, float] = (0.5, 0.5),
    ):
        self.record = tuple(record)
        for item in self.record:
            if item not in DETAILS:
                raise RequestError(f"record={item!r} is unknown; it can be any of {', '.join(DETAILS)}")
        self.adapter = adapter_for(target) if run is None else run.adapter
        self.transformer = self.adapter.transformer
        self.scheduler = getattr(self.adapter.pipe, "scheduler", None)
        if exact_time and self.scheduler is None:
            raise RequestError("exact_time reads the scheduler: attach to the pipeline, not to the transformer alone")
        if is_patched(self.transformer, compat.CALL):
            raise RequestError("a method is already attached to this model; remove it first")
        if self.scheduler is not None and is_patched(self.scheduler, "set_timesteps"):
            raise RequestError(
                "a method is attached to another pipeline with this scheduler; remove it, or give this one its own: "
                "pipe.scheduler = pipe.scheduler.from_config(pipe.scheduler.config)"
            )
        self.adapter.check(method.geometry)
        self.method, self.stage, self.index, self.exact_time = method, stage, index, exact_time
        self.positions = (stage and stage.positions) or method
        self.attention = method.attention(index, run)
        self.adapter.read(method.sentences())
        if self.attention is not None and parallel.is_split(self.transformer):
            raise RequestError(parallel.refusal(method.name))
        self.watch = Watch(query) if "attention" in self.record else None
        if self.watch and parallel.is_split(self.transformer):
            raise RequestError("record=attention sees a part of the sequence only; use model.parallel=blocks")
        if self.watch and self.attention is None:
            self.attention = Attention()  # the stock attention, through the seam where it can be watched
        self.steps: list[Step] = []
        self.clock = Clock(self.scheduler)
        self.rope, self.call = None, {}
        self._processors: dict[int, tuple] = {}  # layer -> the model's processor and the one that stands in for it
        for layer, module in self._attention_layers():
            self._processor(layer, module)  # what can't be carried is refused now
        self.steering = None
        self.patches = Patches()
        try:
            self._attach(run)
        except BaseException:
            self.remove()
            raise

    def _attach(self, run) -> None:
        transformer, patches = self.transformer, self.patches
        self.original_call = getattr(transformer, compat.CALL)
        patches.method(transformer, compat.CALL, self._call)
        patches.method(transformer, "compile", lambda *_, **__: check_whole(transformer, compiling=True))
        if hasattr(transformer, "cache_context"):
            patches.method(transformer, "cache_context", self._follow_branch(transformer.cache_context))
        self.original_positions = getattr(transformer, self.adapter.rotary_name)
        patches.part(transformer, self.adapter.rotary_name, Positions(self))
        if self.scheduler is not None:
            schedule = self.stage.schedule if self.stage else self.method.hand_schedule
            line, steps = self.adapter.shift(self.method.geometry), self.stage and self.stage.steps
            shift = pin_shift(self.scheduler, schedule, self._start, line, steps)
            patches.method(self.scheduler, "set_timesteps", shift)
            if run is not None:
                self.steering = Steering(self, run)
                patches.method(self.scheduler, "step", self.steering.wrap(self.scheduler.step))

    def remove(self) -> None:
        """Take the method off. Doing it twice is harmless."""
        self.patches.undo()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_) -> None:
        self.remove()

    def _start(self) -> None:
        """A generation begins: the pipeline asks the scheduler for its times."""
        self._check_pipeline()
        self.steps.clear()
        self.clock.start()

    def _check_pipeline(self) -> None:
        """Refuse to run on while the pipeline uses another scheduler or transformer than it had."""
        pipe = self.adapter.pipe
        if pipe is None:
            return
        for name, own in (("transformer", self.transformer), ("scheduler", self.scheduler)):
            found = getattr(pipe, name, None)
            if found is not own:
                check_whole(found)
                raise RequestError(
                    f"the {name} of the pipeline was replaced while {self.method.name} was attached, so the method "
                    "would not reach it; remove the method first, and attach it again afterwards"
                )

    def _check_cache(self, reason: str) -> None:
        """Refuse a cache of diffusers where a step has more calls than one: it takes the next one for the next step."""
        if getattr(self.transformer, "is_cache_enabled", False):
            raise RequestError(f"{self.method.name} {reason}, or switch the cache off: transformer.disable_cache()")

    def _follow_branch(self, original):
        """`cache_context(name)` tells the two calls of true classifier-free guidance apart."""

        def cache_context(name: str, *args, **kwargs):
            self.clock.branch = name
            return original(name, *args, **kwargs)

        return cache_context

    def _call(self, *args, **kwargs):
        self._check_pipeline()
        call = self.adapter.bind(args, kwargs)
        if self.steering is not None:
            call = self.steering.inputs(call)
        needs = self.positions.needs()
        joint = getattr(self.positions, "batch", "sample") == "joint"
        content = bool(needs & {"tokens", "latent"}) and not joint and self._beyond(self.adapter.grid(call))
        # Rotary tables have no batch dimension, so what depends on the content runs one sample at a time.
        single = content or (self.adapter.alone and self.attention is not None)
        calls = self.adapter.samples(call) if single and len(call["hidden_states"]) > 1 else [call]
        if len(calls) > 1:
            self._check_cache("runs the samples of a batch one at a time; give one prompt at a time")
        sigma, last, outputs = self.adapter.sigma(call), self.steps[-1] if self.steps else None, []
        index, branch = self.clock.locate(sigma, last)
        if self.clock.begins(sigma, last):
            self.steps.clear()
        with self._while_running():
            for sample, name in zip(calls, self.adapter.branches(branch, len(calls)), strict=True):
                outputs.append(self._one(sample, index, needs, name))
        return outputs[0] if len(outputs) == 1 else self.adapter.join(outputs)

    @contextmanager
    def _while_running(self) -> Iterator[None]:
        """The parts that others may replace between calls: attention processors, and the input projection (a LoRA)."""
        with ExitStack() as undo:
            for layer, module in self._attention_layers():
                undo.callback(module.set_processor, module.processor)
                module.set_processor(self._processor(layer, module))
            undo.enter_context(self.adapter.input_layer.register_forward_hook(self._see_tokens))
            yield

    def _attention_layers(self) -> list[tuple[int, torch.nn.Module]]:
        """Attention modules by number, where the method has a part in them."""
        return [] if self.attention is None else list(enumerate(self.adapter.attention_layers()))

    def _beyond(self, grid: tuple[int, int]) -> bool:
        geometry = self.method.geometry
        return max(grid) > min(geometry.train_tokens, geometry.sega_train_tokens)

    def _one(self, call: dict[str, Any], index: int, needs: set[str], branch: str):
        grid = self.adapter.grid(call)
        places = self.method.text_places(grid, self.index)
        if places != [(0, 0)]:
            call = self.adapter.put_text(call, places)
        sigma = self.clock.sigma(index) if self.exact_time else self.adapter.sigma(call)
        step = Step(index, sigma, grid, self.index, branch, len(call["hidden_states"]))
        if self.attention is not None and self.attention.rehearse(step):
            self._check_cache("runs the transformer twice in a step, to measure")
            sentence = self.attention.rehearsal_text(step)
            measured = call if sentence is None else self.adapter.put_sentence(call, sentence)
            self._timed(measured, replace(step, details={"rehearsal": True}), needs)
        return self._timed(call, step, needs)

    def _timed(self, call: dict[str, Any], step: Step, needs: set[str]):
        if "latent" in needs or "latent" in self.record:
            step.latent = _squeeze(self.adapter.latent(call, step.grid).detach())
        self.steps.append(step)
        self.rope, self.call = None, call
        if self.watch:
            self.watch.clear()
        started = time.perf_counter()
        out = self.adapter.run(self.original_call, call)
        if call["hidden_states"].is_cuda:
            torch.cuda.synchronize(call["hidden_states"].device)
        step.seconds = time.perf_counter() - started
        if "spectrum" in self.record:
            self._spectra(step, self.adapter.latent(call, step.grid), self.adapter.velocity(out, step.grid))
        self._keep(step)
        return out

    def _spectra(self, step: Step, packed: Tensor, velocity: Tensor) -> None:
        """Record the spectra of the latent and of the clean prediction x - sigma v of this call."""
        clean = packed.float() - step.sigma * velocity.float()
        step.details["spectrum"] = latent_spectrum(self.adapter.unpack(packed, step.grid))
        step.details["spectrum_clean"] = latent_spectrum(self.adapter.unpack(clean, step.grid))

    def _see_tokens(self, module, inputs, output: Tensor) -> None:
        step = self.steps[-1]
        if "tokens" in self.record or "tokens" in self.positions.needs():
            output = parallel.gather_tokens(output.detach(), self.transformer, self.call["hidden_states"].shape[1])
            step.tokens = _squeeze(self.adapter.embedded(output, self.call, step.grid)).float()

    def current_rope(self) -> Rope:
        """The positions of the call that is running."""
        if self.rope is None:
            step = self.steps[-1]
            content = step.latent if "latent" in self.positions.needs() else step.tokens
            self.rope = self.positions.positions(step.grid, step.sigma, content)
        return self.rope

    def rotary(self, *args, **kwargs):
        """What `pos_embed` answers to these arguments; the model's own module does it where positions are stock."""
        rope = self.current_rope()
        if rope.stock:
            return self.original_positions(*args, **kwargs)
        table = self.adapter.table(rope, self.method.geometry, *args, **kwargs)
        return parallel.as_split(table, self.original_positions)

    def _processor(self, layer: int, module):
        """What stands in for the processor that the layer has now."""
        stock, made = self._processors.get(layer, (None, None))
        if made is None or stock is not module.processor:
            stock = module.processor
            made = self.adapter.processor(self._attend(layer, stock), stock)
            self._processors[layer] = (stock, made)
        return made

    def _attend(self, layer: int, stock):
        """The attention of a layer, by the method."""
        layers, geometry = len(self.adapter.attention_layers()), self.method.geometry

        def attend(q, k, v, table, dispatch):
            # Blocks may lie on other devices than the inputs.
            step, ids = self.steps[-1], self.adapter.ids(self.call).to(q.device)
            text = q.shape[1] - self.call["hidden_states"].shape[1]

            def rotate(x, ids=ids, rope=None):
                if ids is call.ids and rope is None:
                    return self.adapter.rotate(x, table)
                # Not every `pos_embed` takes ids, so the model's own module is not asked, even where it would know.
                return self.adapter.rotate(x, self.adapter.table(rope or self.current_rope(), geometry, ids))

            def dense(q, k, v, scale=None):
                if self.watch:
                    self.watch.see(call, q, k, scale)
                return dispatch(q, k, v, scale=scale, backend=compat.attention_backend(stock))

            def text_ids(place, size):
                return self.adapter.text_ids(self.call, place, size).to(q.device)

            call = Call(q, k, v, text, step.grid, layer, layers, step, ids, rotate, text_ids, dense)
            return self.attention.attend(call)

        return attend

    def _keep(self, step: Step) -> None:
        """Reduce a step to what is recorded."""
        for key, value in self.current_rope().details.items():
            if not isinstance(value, Tensor) or value.dim() == 0 or "profiles" in self.record:
                step.details[key] = value
        if "magnitudes" in self.record:
            step.details["magnitudes"] = (self.rope.height.magnitudes, self.rope.width.magnitudes)
        if self.watch:
            step.details |= self.watch.found()
        if "tokens" not in self.record:
            step.tokens = None
        if "latent" not in self.record:
            step.latent = None


class Positions(torch.nn.Module):
    """Stands in for `pos_embed`; without parameters, so loading, offload and casting pass it by."""

    def __init__(self, attachment: Attachment):
        super().__init__()
        self.rotary = attachment.rotary

    def forward(self, *args, **kwargs):
        return self.rotary(*args, **kwargs)


def _squeeze(x: Tensor) -> Tensor:
    return x[0] if len(x) == 1 else x
