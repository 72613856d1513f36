"""The time shift of a stage, through the stock scheduler."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable

from sega.parts import Stage
from sega.schedules import mu_for_tokens

Schedule = str | float | Callable[[bool], str | float]


def pin_shift(scheduler, schedule: Schedule, on_start: Callable[[], None] = lambda: None):
    """A `set_timesteps` for this scheduler that applies the shift of a stage.

    "pinned" replaces the mu the pipeline computed by the upper one of the scheduler's config, so that the shift is
    that of the training size at every size; "stock" keeps it; a number h is the static shift h u / (1 + (h - 1) u).
    A function is asked for one of these, given whether the size is beyond the training size.
    """
    original = scheduler.set_timesteps
    signature = inspect.signature(original)

    @functools.wraps(original)
    def set_timesteps(*args, **kwargs):
        on_start()
        call = signature.bind(*args, **kwargs)
        dynamic = scheduler.config.get("use_dynamic_shifting", False)
        mu = call.arguments.get("mu")
        chosen = schedule(mu is None or _beyond(scheduler.config, mu)) if callable(schedule) else schedule
        if dynamic and mu is not None:
            call.arguments["mu"] = _mu(scheduler.config, chosen, mu)
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


def _beyond(config, stock: float) -> bool:
    return stock > config.get("max_shift", 1.15) * (1 + 1e-12)


def _mu(config, schedule: str | float, stock: float) -> float:
    if schedule == "stock":
        return stock
    if schedule == "pinned":
        pinned = config.get("max_shift", 1.15)
        # At the training size the pipeline's line gives this value up to rounding; keep its very bits there.
        return stock if math.isclose(stock, pinned, rel_tol=1e-12) else pinned
    return math.log(schedule) if config.get("time_shift_type", "exponential") == "exponential" else schedule


def stage_sigmas(scheduler, stage: Stage, tokens: int) -> list[float]:
    """The times of a stage of `tokens` image tokens as the pipeline will run them, and the final 0."""
    fresh = type(scheduler).from_config(scheduler.config)
    if hasattr(scheduler, "shift"):
        fresh.set_shift(scheduler.shift)
    config = scheduler.config
    mu = mu_for_tokens(
        tokens, config.get("base_shift", 0.5), config.get("max_shift", 1.15),
        config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096),
    )  # fmt: skip
    pin_shift(fresh, stage.schedule)(sigmas=stage.grid(), mu=mu)
    return [float(sigma) for sigma in fresh.sigmas]
