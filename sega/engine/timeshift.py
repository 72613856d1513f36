"""The time shift of a stage, through the stock scheduler."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from sega.formulas.schedules import tokens_of
from sega.methods.types import Stage
from sega.models.token_line import TokenLine

Chosen = str | float | tuple[float, ...]
Schedule = Chosen | Callable[[bool], str | float]


def pin_shift(
    scheduler: Any,
    schedule: Schedule,
    on_start: Callable[[], None] = lambda: None,
    line: TokenLine | None = None,
    steps: int | None = None,
) -> Callable[..., Any]:
    """A `set_timesteps` for this scheduler that applies the shift of a stage.

    "pinned" replaces the mu the pipeline computed by that of the training size, at every size; "stock" keeps it; a name
    by `shift_of` takes that of so many tokens; a number h is the static shift h u / (1 + (h - 1) u). A function is
    asked for one of these, given whether the size is beyond the training size. A tuple are the sigmas themselves, which
    no shift or stretch of the scheduler moves. `line` is how the pipeline draws mu; `steps` those of the whole list of
    sigmas, where a stage takes only a part of it.
    """
    line = line or TokenLine(scheduler.config)
    original = scheduler.set_timesteps
    signature = inspect.signature(original)

    @functools.wraps(original)
    def set_timesteps(*args: Any, **kwargs: Any) -> Any:
        on_start()
        call = signature.bind(*args, **kwargs)
        dynamic = scheduler.config.get("use_dynamic_shifting", False)
        mu = call.arguments.get("mu")
        taken = call.arguments.get("num_inference_steps") or len(_listed(call.arguments))
        chosen: Chosen = schedule(mu is None or line.beyond(mu, taken)) if callable(schedule) else schedule
        if isinstance(chosen, tuple):
            call.arguments["sigmas"] = list(chosen)
            original(*call.args, **call.kwargs)
            scheduler.sigmas = scheduler.sigmas.new_tensor([*chosen, 0.0])
            scheduler.timesteps = scheduler.sigmas[:-1] * scheduler.config.num_train_timesteps
            return None
        if dynamic and mu is not None:
            call.arguments["mu"] = _mu(scheduler.config, chosen, mu, line, steps or taken)
            return original(*call.args, **call.kwargs)
        if isinstance(chosen, str):
            return original(*call.args, **call.kwargs)
        own = scheduler.shift
        scheduler.set_shift(chosen)
        try:
            return original(*call.args, **call.kwargs)
        finally:
            scheduler.set_shift(own)

    return set_timesteps


def _listed(arguments: Mapping[str, Any]) -> list[float]:
    sigmas = arguments.get("sigmas")
    return arguments.get("timesteps") or [] if sigmas is None else sigmas


def _mu(config: Mapping[str, Any], schedule: str | float, stock: float, line: TokenLine, steps: int) -> float:
    if schedule == "stock":
        return stock
    if schedule == "pinned":
        pinned = line.pinned(steps)
        # At the training size the pipeline's line gives this value up to rounding; keep its very bits there.
        return stock if math.isclose(stock, pinned, rel_tol=1e-12) else pinned
    if isinstance(schedule, str):
        return line.mu(tokens_of(schedule), steps)
    return math.log(schedule) if config.get("time_shift_type", "exponential") == "exponential" else schedule


def stage_sigmas(
    scheduler: Any, stage: Stage, tokens: int, line: TokenLine | None = None, unshifted: list[float] | None = None
) -> list[float]:
    """The sigmas of a stage of `tokens` image tokens as the pipeline will run them, and the final 0.

    `line` and `unshifted` are how the pipeline draws mu and lists its unshifted sigmas; FLUX's by default.
    """
    fresh = type(scheduler).from_config(scheduler.config)
    if hasattr(scheduler, "shift"):
        fresh.set_shift(scheduler.shift)
    line, unshifted = line or TokenLine(scheduler.config), stage.grid() if unshifted is None else unshifted
    shift = pin_shift(fresh, stage.schedule, line=line, steps=stage.steps)
    shift(sigmas=unshifted, mu=line.mu(tokens, stage.taken))
    return [float(sigma) for sigma in fresh.sigmas]
