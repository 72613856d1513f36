"""Make the missing images of one cell."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sega.errors import FailedImageError
from sega.loading import memory, parallel, text_cache
from sega.loading.devices import device_for, slow
from sega.methods.stepping import read_stepping
from sega.run import provenance
from sega.run.cell import Cell, file_name
from sega.run.cost import stage_work
from sega.run.hooks import NO_HOOKS, Hooks
from sega.run.maker import Maker
from sega.run.progress import Progress
from sega.run.prompts import Prompt
from sega.run.stopping import Stop
from sega.run.sweep import Share, Sweep
from sega.run.tracker import open_tracker
from sega.run.writer import Writer
from sega.store.cell_folder import RunFolder
from sega.store.claims import Claim
from sega.store.names import text_sha
from sega.store.step_files import is_recorded, write_steps

if TYPE_CHECKING:
    from sega.engine.sampling import Generated
    from sega.run.schema import CellConfig
    from sega.store.schema import ImageRow


@dataclass
class Session:
    """State that the cells of one command share in this process."""

    hooks: Hooks = NO_HOOKS
    maker: Maker = field(default_factory=Maker)
    stop: Stop = field(default_factory=Stop)
    sweep: Sweep | None = None  # all that the command asks for, where this process works through it
    plain: bool = False  # one of many workers: progress in whole lines that name the worker
    quiet: bool = False  # no line for each finished cell


def run(cell: Cell, session: Session) -> None:
    """Generate the images that a cell lacks. Raises RequestError for what can't work.

    Where several processes work on one image, the first does all this and the others only help it.
    """
    config = cell.config
    if cell.model["parallel"] in parallel.SPLIT:
        parallel.meet(_device(cell))
    if parallel.rank() > 0:
        _help(cell, session.maker)
        return
    folder, names, label = cell.folder, {file_name(*item) for item in cell.images}, cell.label
    who = f"{socket.gethostname()}:{os.getpid()} " if session.plain else ""
    work = stage_work(cell)
    calls = read_stepping(cell.model).calls
    stages = [(calls(stage.taken), part) for stage, part in zip(cell.stages, work, strict=True)]
    progress = Progress(who + label, Share(folder, names, sum(work)), session.sweep, stages, session.plain)
    problems = folder.repair() if folder.path.exists() else []
    for problem in problems:
        progress.warn(problem)
    missing = [item for item in cell.in_order if not _is_through(folder, item, config, progress)]
    if folder.path.exists() and not missing and not folder.is_described():
        problems += (more := folder.open(_record(cell, None)))  # the device of images made before is not known
        for problem in more:
            progress.warn(problem)
    if folder.path.exists() and not missing and not folder.is_settled():
        folder.settle()
    try:
        if missing and not session.stop.requested:
            with session.stop.handled():
                _Worker(cell, folder, progress, missing, session).work(missing)
    finally:
        progress.close()
    parallel.tell(None)
    now = progress.share.count()
    words = [f"{progress.made} made", f"{now.done - progress.made} there"]
    words += [f"{number} {what}" for number, what in ((now.failed, "failed"), (now.left, "left")) if number]
    if not session.quiet:
        print(f"{label}: {', '.join(words)}  ->  {folder.path}", flush=True)


def _state(folder: RunFolder, name: str, config: CellConfig) -> str | None:
    """The state of an image in the store; None also where steps are asked for that were not recorded with it."""
    state = folder.state(name)
    return None if state == "done" and not is_recorded(folder.path / name, folder.rows()[name], config) else state


def _is_through(folder: RunFolder, item: tuple[Prompt, int], config: CellConfig, progress: Progress) -> bool:
    """Whether nothing is to be done about an image: it is there, or has failed and is not tried again."""
    state = _state(folder, file_name(*item), config)
    if state not in ("done", "failed", None):
        progress.warn(state)
    return state == "done" or (state == "failed" and not config["retry_failed"])


class _Worker:
    """Makes the images of one cell, one at a time, so that no image depends on its batch.

    A thread writes each while the next is made, under its claim, so that at most one is in memory besides.
    """

    def __init__(
        self,
        cell: Cell,
        folder: RunFolder,
        progress: Progress,
        items: list[tuple[Prompt, int]],
        session: Session,
    ):
        self.cell, self.folder, self.progress, self.session = cell, folder, progress, session
        self.stop, self.maker = session.stop, session.maker
        self.device = _device(cell)
        self.placement = memory.placement_of(cell, self.device)
        if cell.model["parallel"] != "blocks" and self.placement.matters:  # the estimate is for one device
            progress.note(self.placement.line(), once=True)
        for line in filter(None, (*cell.unused, slow(cell.model["dtype"], self.device))):
            progress.note(line, once=True)
        progress.wait("loading")
        self.texts = text_cache.prepare(
            cell, items, folder.identity, self.device, self.placement.text_mode, self.maker.free
        )
        sentences = [prompt.text + stage.suffix for prompt in cell.prompts for stage in cell.stages]
        if self.texts and (line := self.texts.cut(sentences)):
            progress.note(line, once=True)
        parallel.tell("load")
        loading = progress.note if self.placement.matters else None
        mode = "gpu" if cell.model["parallel"] else self.placement.mode
        self.pipe = self.maker.open(cell, self.device, self.texts, mode, loading)
        for problem in folder.open(_record(cell, self.maker.describe(self.device))):
            progress.warn(problem)
        self.bases = None
        if cell.method.staged:
            from sega.store.bases import BaseFolder

            keys = ("model", "negative_prompt", "text_tokens", "noise")
            common, config = {key: folder.identity[key] for key in keys}, cell.config
            self.bases = BaseFolder(config["store"], cell.model["name"], common, progress.warn, config["lease"])
            if parallel.size() > 1:
                self.bases = parallel.Together(self.bases)

    def work(self, items: list[tuple[Prompt, int]]) -> None:
        """Make the images. Those that another worker holds are checked again until they are made."""
        tracker = open_tracker(
            self.cell.config["tracker"],
            self.progress.label,
            self.cell.method.name,
            self.folder.hash,
            {"identity": self.folder.identity, "config": self.cell.config},
            self.session.hooks.scaling_map,
        )
        pause = 0.02
        writer: Writer[ImageRow | None] = Writer()

        def tell(rows: Iterable[ImageRow | None]) -> None:
            for row in rows:
                if row:
                    tracker.log(row, self.folder.path / row["file"])
                self.progress.done(made=bool(row))

        def make(item: tuple[Prompt, int]) -> bool:
            made = self._make(item, writer)
            with self.stop.in_flight():
                tell(writer.collect(left=1))
            return made

        self.progress.begin()
        try:
            while items and not self.stop.requested:
                held = [item for item in items if self.stop.requested or not make(item)]
                pause = min(pause * 2, 2.0) if len(held) == len(items) else 0.02
                with self.stop.in_flight():
                    tell(writer.collect())
                if held:
                    self.progress.wait("waiting for images of other workers")
                if held and not self.stop.requested:
                    time.sleep(pause)
                items = held
        finally:
            tell(writer.close())
            tracker.close()
            self.folder.settle()
            if self.bases:
                self.bases.settle()

    def _make(self, item: tuple[Prompt, int], writer: Writer[ImageRow | None]) -> bool:
        """Make an image and hand it to the writer; False when another worker holds it."""
        name = file_name(*item)
        with contextlib.ExitStack() as held:
            claim = held.enter_context(self.folder.claim(name))
            if claim is None:
                return False
            job, state = None, _state(self.folder, name, self.cell.config)
            if state != "done" and (state != "failed" or self.cell.config["retry_failed"]):
                self.progress.next(len(writer))
                with self.stop.in_flight():
                    job = self._generate(*item, name, claim)
                    if job:
                        writer.hand(job, held.pop_all())
        if job is None:
            self.progress.done(made=False)
        return True

    def _generate(self, prompt: Prompt, seed: int, name: str, claim: Claim) -> Callable[[], ImageRow | None] | None:
        """Make an image, and return what writes it; None if it failed."""
        request = self.cell.request
        about = {"prompt_id": prompt.id, "prompt": prompt.text, "prompt_sha": text_sha(prompt.text), "seed": seed}
        provenance.reset_peak(self.device)
        parallel.tell((prompt.text, seed))
        try:
            with memory.explained(self.placement, request.size):
                options = _options(self.cell, self) | {"on_step": self.progress.step}
                done = self.maker.generate(self.pipe, self.cell.method, prompt.text, seed=seed, **options)
        except FailedImageError as reason:
            self.progress.warn(f"{self.folder.path / name} failed: {reason}")
            end = {"reason": str(reason), "finished": _now(), "code": provenance.code()}
            self.folder.add_failed(name, about | end)
            return None
        row = about | {
            "seconds": round(done.seconds, 3),
            "base_seconds": round(done.base_seconds, 3),
            "calls": done.calls,
            **({} if done.full_calls is None else {"full_calls": round(done.full_calls, 3)}),
            "peak_memory_mb": provenance.peak_mb(self.device),
            "finished": _now(),
            "code": provenance.code(),
        }
        return lambda: self._write(name, done, row, claim)

    def _write(self, name: str, done: Generated, row: dict[str, Any], claim: Claim) -> ImageRow | None:
        """Record an image; None if another worker took it over."""
        if not claim.holds():
            why = "another worker took this image over because this worker stopped renewing its claim; skipping it"
            self.progress.warn(f"{name}: {why}")
            return None
        config = self.cell.config
        if config["record"]:
            row |= {"steps": write_steps(self.folder.path / name, done.steps)}
            row |= {key: config[key] for key in ("record", "query")}
        return self.folder.add(name, done.image, row)


def _options(cell: Cell, worker) -> dict[str, Any]:
    """What `generate` is told besides pipeline, method, prompt and seed."""
    from sega.engine.recorder import Observation

    config, request = cell.config, cell.request
    return {
        "size": request.size,
        "steps": request.steps,
        "guidance": request.guidance,
        "negative_prompt": cell.model["negative_prompt"],
        "observe": Observation(tuple(config["record"]), tuple(config["query"]), config["exact_time"]),
        "bases": worker.bases,
    }


class _Helper:
    """A process that runs its share of the images of the first one and keeps nothing."""

    def __init__(self, cell: Cell, maker: Maker):
        self.texts = text_cache.prepare(cell, [], cell.folder.identity, _device(cell), "gpu", maker.free)
        self.pipe = maker.open(cell, _device(cell), self.texts, "gpu")
        self.bases = parallel.Together() if cell.method.staged else None


def _help(cell: Cell, maker: Maker) -> None:
    helper = None
    for job in parallel.jobs():
        if job == "load":
            helper = _Helper(cell, maker)
            continue
        with contextlib.suppress(FailedImageError):  # the first process meets it too, and says so
            prompt, seed = job
            maker.generate(helper.pipe, cell.method, prompt, seed=seed, **_options(cell, helper))


def _record(cell: Cell, device: str | None) -> dict[str, Any]:
    """What run.json holds besides the identity."""
    packages = provenance.packages()
    return {"config": cell.config, **provenance.code(), "packages": packages, "device": device, "created": _now()}


def _device(cell: Cell) -> str:
    split = cell.model["parallel"] in parallel.SPLIT
    return parallel.own_device(cell.config["device"]) if split else device_for(cell.config["device"])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
