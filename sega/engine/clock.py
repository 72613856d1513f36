"""Find out which step, sigma and prompt of classifier-free guidance a transformer call belongs to."""

from __future__ import annotations

from sega.methods.types import Step


class Clock:
    """Counts the steps of each generation as the scheduler does.

    Without a scheduler (`None`) that drives the calls, their times tell: a lower time is the next step, an equal one
    another call of the same step, a higher one begins a generation.
    """

    def __init__(self, scheduler):
        self.scheduler = scheduler
        self.driven = False  # whether the scheduler has begun a generation
        self.branch: str | None = None  # "cond" or "uncond", where the pipeline says so
        self._sigmas: tuple[float, ...] | None = None  # all of this generation, read once

    def start(self) -> None:
        """The scheduler begins a generation."""
        self.driven, self.branch, self._sigmas = True, None, None

    @property
    def begin(self) -> int:
        """The first sigma of the scheduler that is used; above 0 if a pipeline starts from an image."""
        return getattr(self.scheduler, "begin_index", None) or 0

    def sigma(self, index: int) -> float:
        """The sigma of a step in the scheduler, before the dtype of the model rounds it."""
        return float(self.scheduler.sigmas[self.begin + index])

    def sigmas(self) -> tuple[float, ...]:
        """The sigmas of all steps of this generation; empty where no scheduler has begun one."""
        if self._sigmas is None:
            self._sigmas = tuple(self.scheduler.sigmas[self.begin : -1].tolist()) if self.driven else ()
        return self._sigmas

    def locate(self, sigma: float, last: Step | None) -> tuple[int, str]:
        """Return index (from 0) and branch of a call at `sigma` that follows the call `last`.

        A pipeline that does not name its branches makes a second call in a step for the negative prompt.
        """
        index = self._counted()
        if index is not None:
            again = last is not None and last.index == index
            return index, self.branch or ("uncond" if again else "cond")
        index = 0 if last is None or sigma > last.sigma else last.index + (sigma < last.sigma)
        return index, self.branch or "cond"

    def place(self) -> dict[str, int | float]:
        """Where the generation stands, as `cache_context` of diffusers takes it; nothing where no scheduler says so."""
        index = self._counted()
        if index is None:
            return {}
        return {"step_index": index, "sigma": self.sigma(index), "num_inference_steps": len(self.sigmas())}

    def begins(self, sigma: float, last: Step | None) -> bool:
        """Return whether a call without a scheduler starts another generation than `last`."""
        return last is not None and self._counted() is None and sigma > last.sigma

    def _counted(self) -> int | None:
        """Steps taken by the scheduler in this generation; None before the first one and after the last."""
        if not self.driven or not hasattr(self.scheduler, "step_index"):
            return None
        at = self.scheduler.step_index
        at = self.begin if at is None else at
        return at - self.begin if at < len(self.scheduler.timesteps) else None
