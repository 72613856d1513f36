"""Put a method on a stock diffusers model, and take it off without a trace.

What is touched, all on the instance: what makes rotary tables (`transformer.pos_embed`), the call of the transformer
(`_call_impl`, what `transformer(...)` runs; `forward` belongs to offloading and caches), `transformer.cache_context`
and `scheduler.set_timesteps`; where a stage is steered, also `scheduler.step`. Only while the transformer runs there
are a hook on the input projection and other attention processors, so that between calls adapters come and go freely.

Positions that follow the content need the embedded tokens of the running call. This works because the stock forward
calls the input projection before `pos_embed`: the hook has seen the tokens when rotary tables are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sega import compat
from sega.engine.blocks import counted_blocks, share_of_operations
from sega.engine.clock import Clock
from sega.engine.flow import Steering
from sega.engine.patches import Patches, is_patched
from sega.engine.processors import Processors
from sega.engine.recorder import Observation, Recorder, read
from sega.engine.running import RunningCall
from sega.engine.stopwatch import Stopwatch
from sega.engine.timeshift import Schedule, pin_shift
from sega.errors import RequestError
from sega.loading import caching, parallel
from sega.methods.base import Attention, Method
from sega.methods.types import PositionSource, Step
from sega.models import adapter_for, check_whole
from sega.models.base import Adapter


def attach(
    target: Any,
    method: Method,
    record: Iterable[str] = (),
    exact_time: bool = False,
    query: tuple[float, float] = (0.5, 0.5),
) -> Attachment:
    """Attach a method to a pipeline or a transformer; `with attach(pipe, method): ...`, or call `.remove()`.

    `record` asks for more in the records of `.steps`: any of profiles, magnitudes, tokens, latent, spectrum, attention
    (of the token at `query`, a position (x, y) as fractions of the image). The sigma a method sees is the one the
    transformer receives, rounded to its dtype; `exact_time` reads it from the scheduler instead.
    """
    if method.staged:
        raise RequestError(
            f"{method.name} goes through several stages and can't be attached by hand; "
            "use sega.engine.sampling.generate(pipe, method, prompt, ...)"
        )
    observation, adapter = Observation(tuple(record), query, exact_time), adapter_for(target)
    if found := adapter.stepping.identity():
        key, value = next(iter(found.items()))
        raise RequestError(f"model.{key}={value} works in run.py and generate only; load the pipeline without it")
    adapter.read(method.sentences())
    return Attachment(adapter, method, observation, method.attention(0, None))


class Attachment:
    """A method on a model."""

    def __init__(
        self,
        adapter: Adapter,
        method: Method,
        observation: Observation,
        attention: Attention | None,
        steering: Steering | None = None,
    ):
        """`attention` is the method's part for this stage; `steering` names the stage, None when attached by hand."""
        self.adapter, self.method, self.steering = adapter, method, steering
        self.transformer = adapter.transformer
        self.scheduler = getattr(adapter.pipe, "scheduler", None)
        self.exact_time = observation.exact_time
        self._check(attention, observation)
        self.source: PositionSource = method
        if steering is not None and steering.stage.positions is not None:
            self.source = steering.stage.positions
        self._steps: list[Step] = []
        self._unread: list[tuple[Step, Stopwatch]] = []
        self.clock = Clock(self.scheduler)
        self.running: RunningCall | None = None
        self.recorder = Recorder(observation, adapter)
        self.attention = attention
        if attention is None and self.recorder.watch is not None:
            self.attention = Attention()  # the stock attention, through the seam where it can be watched
        self.processors: Processors | None = None
        if self.attention is not None:
            self.processors = Processors(adapter, self.attention, self.recorder.watch, self.current)
        self.needs = self.source.needs() | (
            {"latent"} if self.attention is not None and self.attention.latent else set()
        )
        self.original_call = getattr(self.transformer, compat.CALL)
        self.original_rotary = getattr(self.transformer, adapter.rotary_name)
        self.patches = Patches()
        try:
            self._patch()
        except BaseException:
            self.remove()
            raise

    def _check(self, attention: Attention | None, observation: Observation) -> None:
        """Refuse what can't work, before anything is touched."""
        if self.exact_time and self.scheduler is None:
            raise RequestError("exact_time reads the scheduler: attach to the pipeline, not to the transformer alone")
        if is_patched(self.transformer, compat.CALL):
            raise RequestError("a method is already attached to this model; remove it first")
        if self.scheduler is not None and is_patched(self.scheduler, "set_timesteps"):
            raise RequestError(
                "a method is attached to another pipeline with this scheduler; remove it, or give this one its own: "
                "pipe.scheduler = pipe.scheduler.from_config(pipe.scheduler.config)"
            )
        self.adapter.check(self.method.geometry)
        if attention is not None and parallel.is_split(self.transformer):
            raise RequestError(parallel.refusal(self.method.name))
        if "attention" in observation.record and parallel.is_split(self.transformer):
            raise RequestError("record=attention sees a part of the sequence only; use model.parallel=blocks")
        if "attention" in observation.record and self.cached:
            raise RequestError(f"{caching.UNSEEN}; switch it off: transformer.disable_cache()")
        if self.steering is not None and self.steering.stage.windows:
            self._check_cache(caching.moving(self.method).removeprefix(f"{self.method.name} "))

    def _patch(self) -> None:
        transformer, patches = self.transformer, self.patches
        patches.method(transformer, compat.CALL, self._call)
        patches.method(transformer, "compile", lambda *_, **__: check_whole(transformer, compiling=True))
        if hasattr(transformer, "cache_context"):
            patches.method(transformer, "cache_context", self._follow_branch(transformer.cache_context))
        patches.part(transformer, self.adapter.rotary_name, RotaryStandIn(self))
        if self.scheduler is None:
            return
        schedule: Schedule = self.method.hand_schedule
        steps = None
        if self.steering is not None:
            schedule, steps = self.steering.stage.schedule, self.steering.stage.steps
        line = self.adapter.shift(self.method.geometry)
        set_timesteps = pin_shift(self.scheduler, schedule, self._start, line, steps)
        if self.steering is not None:
            set_timesteps = self.steering.wrap_times(self.scheduler, set_timesteps)
        patches.method(self.scheduler, "set_timesteps", set_timesteps)
        if self.steering is not None:
            patches.method(self.scheduler, "step", self.steering.wrap(self.scheduler))

    @property
    def steps(self) -> list[Step]:
        """One Step per transformer call of the last generation; what a GPU knows of them is read here."""
        for step, watch in self._unread:
            step.seconds = watch.seconds()
            step.details = {key: read(value) for key, value in step.details.items()}
        self._unread.clear()
        return self._steps

    def _forget(self) -> None:
        self._steps.clear()
        self._unread.clear()

    def remove(self) -> None:
        """Take the method off. Doing it twice is harmless."""
        self.patches.undo()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _start(self) -> None:
        """A generation begins: the pipeline asks the scheduler for its timesteps."""
        self._check_pipeline()
        self._forget()
        self.clock.start()
        if self.cached:
            compat.forget_cached(self.transformer)

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

    @property
    def cached(self) -> bool:
        """Whether a cache of diffusers may leave out blocks."""
        return getattr(self.transformer, "is_cache_enabled", False)

    def _check_cache(self, reason: str) -> None:
        """Refuse a cache of diffusers where a step has more calls than one: it takes the next one for the next step."""
        if self.cached:
            raise RequestError(f"{self.method.name} {reason}, or switch the cache off: transformer.disable_cache()")

    def _follow_branch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`cache_context(name)` tells the two calls of true classifier-free guidance apart."""

        def cache_context(name: str, *args: Any, **kwargs: Any) -> Any:
            self.clock.branch = name
            if self.cached:  # the stock pipelines say no more than the name
                kwargs = self.clock.place() | kwargs
            return original(name, *args, **kwargs)

        return cache_context

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        """A call of the transformer: one or several calls of the original, each of them a Step."""
        self._check_pipeline()
        call = self.adapter.bind(args, kwargs)
        if self.steering is not None:
            call = self.steering.inputs(call)
        samples = self._samples(call)
        sigma, last = self.adapter.sigma(call), self._steps[-1] if self._steps else None
        index, branch = self.clock.locate(sigma, last)
        if self.clock.begins(sigma, last):
            self._forget()
        branches = self.adapter.branches(branch, len(samples))
        seen = self.clock.sigma(index) if self.exact_time else sigma
        with self._while_running():
            outputs = [self._one(sample, index, seen, name) for sample, name in zip(samples, branches, strict=True)]
        return outputs[0] if len(outputs) == 1 else self.adapter.join(outputs)

    def _samples(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        """The call; as one call per sample where what a method does depends on the sample."""
        alone = self.adapter.alone and self.attention is not None
        if len(call["hidden_states"]) == 1 or not (alone or self._follows_content(call)):
            return [call]
        samples = self.adapter.samples(call)
        self._check_cache("runs the samples of a batch one at a time; give one prompt at a time")
        return samples

    def _follows_content(self, call: dict[str, Any]) -> bool:
        """Whether a part follows the content of each sample: rotary tables have no batch dimension."""
        if not self.needs & {"tokens", "latent"} or getattr(self.source, "batch", "sample") == "joint":
            return False
        geometry = self.method.geometry
        return max(self.adapter.grid(call)) > min(geometry.train_tokens, geometry.sega_train_tokens)

    @contextmanager
    def _while_running(self) -> Iterator[None]:
        """The parts that others may replace between calls: attention processors, and the input projection (a LoRA)."""
        with ExitStack() as undo:
            if self.processors is not None:
                undo.enter_context(self.processors.installed())
            undo.enter_context(self.adapter.input_layer.register_forward_hook(self._see_tokens))
            yield

    def _one(self, call: dict[str, Any], index: int, sigma: float, branch: str) -> Any:
        """One call that is not divided further, and the measuring pass before it where the method asks for one."""
        grid, stage = self.adapter.grid(call), 0 if self.steering is None else self.steering.index
        places = self.method.text_positions(grid, stage)
        if places != [(0, 0)]:
            call = self.adapter.put_text(call, places)
        step = Step(index, sigma, grid, stage, branch, len(call["hidden_states"]), self.clock.sigmas())
        if self.attention is not None and self.attention.probes(step):
            self._check_cache(caching.TWICE)
            sentence = self.attention.probe_text(step)
            measured = call if sentence is None else self.adapter.put_sentence(call, sentence)
            self._run(measured, replace(step, details={"probe": True}))
        return self._run(call, step)

    def _run(self, call: dict[str, Any], step: Step) -> Any:
        """Run the original call and record it as a step."""
        if "latent" in self.needs or "latent" in self.recorder.record:
            step.latent = _squeeze(self.adapter.latent(call, step.grid).detach())
        self._steps.append(step)
        self.running = running = RunningCall(self.adapter, self.source, self.method.geometry, step, call)
        self.recorder.begin()
        watch = Stopwatch(call["hidden_states"].device)
        with self._counted(step, call):
            out = self.adapter.run(self.original_call, call)
        watch.stop()
        self.recorder.keep(step, running.rope, call, out)
        self._unread.append((step, watch))
        return out

    @contextmanager
    def _counted(self, step: Step, call: dict[str, Any]) -> Iterator[None]:
        """Count what runs of a call, where that may be less than a whole one at the size of the image."""
        partial = self.adapter.stepping.partial
        if not (self.cached or partial):
            yield
            return
        with counted_blocks(self.adapter) if self.cached else nullcontext() as ran:
            yield
        if ran is not None:
            step.details["blocks"] = len(ran)
        whole = self.steering.tokens if self.steering is not None and partial else None
        step.share = share_of_operations(self.adapter, call, ran, self.current().saved, whole)

    def _see_tokens(self, module: torch.nn.Module, inputs: Any, output: Tensor) -> None:
        """The hook on the input projection."""
        if "tokens" in self.recorder.record or "tokens" in self.source.needs():
            running = self.current()
            output = parallel.gather_tokens(output.detach(), self.transformer, running.image_length)
            tokens = self.adapter.image_tokens(output, running.call, running.step.grid)
            running.tokens = _squeeze(tokens).float()
            if "tokens" in self.recorder.record:
                running.step.tokens = running.tokens

    def current(self) -> RunningCall:
        """The call of the transformer that is running."""
        if self.running is None:
            raise RuntimeError("rotary tables were requested before the transformer was called")
        return self.running

    def rotary(self, *args: Any, **kwargs: Any) -> Any:
        """What `pos_embed` answers to these arguments; the model's own module does it where positions are stock."""
        rope = self.current().rope
        if rope.stock:
            return self.original_rotary(*args, **kwargs)
        table = self.adapter.table(rope, self.method.geometry, *args, **kwargs)
        return parallel.as_split(table, self.original_rotary)


class RotaryStandIn(torch.nn.Module):
    """Stands in for `pos_embed`; without parameters, so loading, offload and casting pass it by."""

    def __init__(self, attachment: Attachment):
        super().__init__()
        self.rotary = attachment.rotary

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.rotary(*args, **kwargs)


def _squeeze(x: Tensor) -> Tensor:
    """The one sample of a batch of one."""
    return x[0] if len(x) == 1 else x
