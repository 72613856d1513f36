"""Make and score the images of a point of a search in this process: the cells of run.py, the scores of `eval`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sega.errors import RequestError
from sega.loading.folder import read_parts
from sega.run.cell import Cell, file_name
from sega.run.cost import image_cost
from sega.run.request import read_request
from sega.run.worker import Session, run
from sega.store.files import locked

from ..hooks import HOOKS
from ..records.runs import load_run
from ..scoring.execute import execute
from ..scoring.job import prepare
from .definition import Definition, Value


@dataclass(frozen=True)
class Found:
    """What a point reached on its first `prompts` prompts."""

    prompts: int
    images: int
    scores: dict[str, float]  # metric -> value
    calls: float  # transformer calls of an image
    operations: float | None  # for an image; None: the class of the transformer is not counted
    seconds: float | None  # of an image, median; measured beside other work

    def plain(self) -> dict[str, Any]:
        """Return what the journal keeps."""
        return dict(vars(self))


class Bench:
    """Makes and scores points into a store. `session` holds the pipeline that is open."""

    def __init__(self, definition: Definition, out: Path, store: Path, cache: Path, device: str, words: list[str]):
        self.definition, self.out, self.cache = definition, out, cache
        self.common = [*words, f"eval={definition.objective.protocol['name']}", f"store={store}", f"device={device}"]
        self.protocol = {**definition.objective.protocol, "device": device}
        self.session = Session(HOOKS, quiet=True)

    def cell(self, settings: Mapping[str, Value]) -> Cell:
        """Return the cell of a point. Raises RequestError where run.py would refuse it."""
        cells = read_request([*self.definition.words(settings), *self.common], HOOKS).cells
        return cells[0]

    def evaluate(self, cell: Cell, prompts: int, lock: str | None = None) -> Found | None:
        """Make and score the images of the first prompts; None if the session was asked to stop before.

        Two workers never score under one `lock` at a time; if none is given, a cell has one. Raises
        RequestError if the method refuses the images or one of them fails.
        """
        part = replace(cell, prompts=cell.prompts[:prompts])
        run(part, self.session)
        names = {file_name(*item) for item in part.images}
        failed = names & set(part.folder.failed())
        if failed:
            reason = part.folder.failed()[min(failed)]["reason"]
            raise RequestError(f"{len(failed)} of {len(names)} images failed: {reason}")
        if not names <= set(part.folder.rows()):
            return None
        with locked(self.out / ".locks" / (lock or f"score-{cell.folder.hash[0]}")):
            block = self._scores(part)
        cost = block["cost"]
        calls = cost["calls"] or 0.0
        ran = cost.get("full_calls", calls) / calls if calls else 1.0  # step caching leaves parts of calls out
        return Found(prompts, len(names), self._values(block), calls, self._operations(cell, ran), cost["seconds"])

    def _scores(self, cell: Cell) -> Any:
        """Return the scores of a cell's images, which are kept beside them if the folder has no others."""
        whole = load_run(cell.folder.path)
        keys = {(prompt.id, seed) for prompt, seed in cell.images}
        images = [image for image in whole.images if image.key in keys]
        job = prepare(replace(whole, images=images), self.protocol, self.cache)
        if job.done:
            return job.old
        return execute(job, self.cache, progress=False, write=len(images) == len(whole.images))

    def _values(self, block: Any) -> dict[str, float]:
        found = {}
        for name in self.definition.objective.directions:
            cell = block["metrics"][name]
            if "value" not in cell:
                raise RequestError(f"objective.metrics: {name} has no value: {cell['reason']}")
            found[name] = float(cell["value"])
        return found

    @staticmethod
    def _operations(cell: Cell, ran: float) -> float | None:
        """Return the operations for an image. `ran` is the share of the transformer's that a step cache left."""
        exact = image_cost(replace(cell, model={**cell.model, "cache": None}), read_parts(cell.weights.folder))
        if exact.work is None:
            return None
        coding = exact.coding.operations if exact.coding else 0.0
        return ran * (exact.work.operations - coding) + coding
