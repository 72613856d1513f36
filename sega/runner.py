"""Fill one cell of the run store."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from sega import machine
from sega.models.loading import fingerprint
from sega.noise import NOISE_VERSION
from sega.plan import Cell, identity, plan
from sega.progress import Progress
from sega.prompts import Prompt, sha
from sega.steps import is_recorded, write_steps
from sega.store import RunFolder
from sega.tracker import open_tracker

_loaded: dict[str, Any] = {}  # the pipeline of the last cell: the cells of a sweep mostly share it


def run(config: dict[str, Any]) -> RunFolder:
    """Generate what is missing of the cell of a resolved config. Raises RequestError for what can't work."""
    cell = plan(config)
    about = identity(cell, fingerprint(cell.weights), NOISE_VERSION)
    folder = RunFolder(config["store"], cell.model["name"], cell.method.name, cell.request.size, about)
    label = f"{cell.model['name']} {cell.method.name} {'x'.join(map(str, cell.request.size))}"
    progress = Progress(label, len(cell.images))
    for problem in folder.repair() if folder.path.exists() else []:
        progress.warn(problem)
    missing = [item for item in cell.images if not _is_done(folder, item, config, progress)]
    if missing:
        _Worker(cell, folder, progress, about).work(missing)
    progress.close()
    print(f"{label}: {progress.made} made, {len(cell.images) - progress.made} there  ->  {folder.path}", flush=True)
    return folder


def file_name(prompt: Prompt, seed: int) -> str:
    return f"{prompt.id}-{seed}.png"


def _state(folder: RunFolder, name: str, config: dict[str, Any]) -> str | None:
    """The state of an image in the store; None also where steps are asked for that were not recorded with it."""
    state = folder.state(name)
    return None if state == "done" and not is_recorded(folder.path / name, folder.rows()[name], config) else state


def _is_done(folder: RunFolder, item: tuple[Prompt, int], config: dict[str, Any], progress: Progress) -> bool:
    state = _state(folder, file_name(*item), config)
    if state not in ("done", None):
        progress.warn(state)
    if state == "done":
        progress.step(made=False)
    return state == "done"


class _Worker:
    """Makes the images of one cell, one at a time, so that no image depends on its batch."""

    def __init__(self, cell: Cell, folder: RunFolder, progress: Progress, about: dict[str, Any]):
        self.cell, self.folder, self.progress = cell, folder, progress
        self.device = _device(cell.config["device"])
        self.pipe = _pipeline(cell, self.device)
        folder.open({
            "config": cell.config, **machine.code(), "packages": machine.packages(),
            "device": machine.device_name(self.device), "created": _now(),
        })  # fmt: skip
        self.bases = None
        if cell.method.staged:
            from sega.bases import BaseFolder

            keys = ("model", "negative_prompt", "text_tokens", "noise")
            common = {key: about[key] for key in keys}
            self.bases = BaseFolder(cell.config["store"], cell.model["name"], common, progress.warn)

    def work(self, items: list[tuple[Prompt, int]]) -> None:
        """Images another worker holds are left for the end, then waited for."""
        tracker = open_tracker(
            self.cell.config["tracker"], self.progress.label, self.cell.method.name, self.folder.hash,
            {"identity": self.folder.identity, "config": self.cell.config},
        )  # fmt: skip
        try:
            held = [item for item in items if not self._make(item, tracker)]
            for item in held:
                self._make(item, tracker, wait=True)
        finally:
            tracker.close()

    def _make(self, item: tuple[Prompt, int], tracker, wait: bool = False) -> bool:
        """False when another worker holds the image."""
        name = file_name(*item)
        with self.folder.claim(name, wait) as mine:
            if not mine:
                return False
            made = _state(self.folder, name, self.cell.config) != "done"
            if made:
                row = self._generate(*item, name)
                tracker.log(row, self.folder.path / name)
        self.progress.step(made)
        return True

    def _generate(self, prompt: Prompt, seed: int, name: str) -> dict[str, Any]:
        from sega.sampling import generate

        config, request = self.cell.config, self.cell.request
        machine.reset_peak(self.device)
        done = generate(
            self.pipe, self.cell.method, prompt.text, seed, request.size, request.steps, request.guidance,
            negative_prompt=self.cell.model["negative_prompt"], bases=self.bases,
            record=tuple(config["record"]), exact_time=config["exact_time"], query=tuple(config["query"]),
        )  # fmt: skip
        row = {
            "prompt_id": prompt.id, "prompt": prompt.text, "prompt_sha": sha(prompt.text), "seed": seed,
            "seconds": round(done.seconds, 3), "base_seconds": round(done.base_seconds, 3), "calls": done.calls,
            "peak_memory_mb": machine.peak_mb(self.device), "finished": _now(), "code": machine.code(),
        }  # fmt: skip
        if config["record"]:
            write_steps(self.folder.path / name, done.steps)
            row |= {key: config[key] for key in ("record", "query")}
        return self.folder.add(name, done.image, row)


def _device(wish: str) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if wish == "auto" else wish


def _pipeline(cell: Cell, device: str):
    key = json.dumps([str(cell.weights.folder), cell.model, device])
    if key not in _loaded:
        from sega.models.loading import load_pipeline

        _loaded.clear()
        print(f"loading {cell.weights.folder}", file=sys.stderr, flush=True)
        _loaded[key] = load_pipeline(cell.model, cell.weights, device)
    return _loaded[key]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

