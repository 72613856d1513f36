"""Count the images of a request over all its cells, and the work that is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sega.run.cell import Cell, file_name
from sega.run.cost import stage_work
from sega.store.cell_folder import RunFolder


@dataclass(frozen=True)
class Count:
    """Images of a cell or of a whole sweep."""

    total: int
    done: int
    failed: int

    @property
    def left(self) -> int:
        return self.total - self.done - self.failed


@dataclass
class Share:
    """The images of one cell in a request."""

    folder: RunFolder
    names: set[str]
    work: float = 1.0  # what an image costs, in the unit of the other cells

    def count(self) -> Count:
        """Count the images from the records of the cell."""
        done, failed = self.names & set(self.folder.rows()), self.names & set(self.folder.failed())
        return Count(len(self.names), len(done), len(failed))


@dataclass
class Sweep:
    """The images of a request over all its cells, and the time this process has spent on them."""

    cells: dict[str, Share] = field(default_factory=dict)  # by path
    seconds: float = 0.0  # spent on images in finished cells
    before: float | None = None  # work that was done when the first cell began
    said: set[str] = field(default_factory=set)  # what a command says only once

    def add(self, folder: RunFolder, names: Sequence[str], work: float = 1.0) -> None:
        """Several cells of a command may be one folder, with other prompts each."""
        self.cells.setdefault(str(folder.path), Share(folder, set(), work)).names.update(names)

    def counts(self) -> list[tuple[Count, float]]:
        """Of each cell: its images, and the work of one."""
        return [(share.count(), share.work) for share in self.cells.values()]

    def count(self) -> Count:
        found = [now for now, _ in self.counts()]
        return Count(*(sum(getattr(item, key) for item in found) for key in ("total", "done", "failed")))

    def failures(self) -> list[RunFolder]:
        """Cells with failed images."""
        return [share.folder for share in self.cells.values() if share.count().failed]


def work_done(counts: list[tuple[Count, float]]) -> float:
    return sum((now.done + now.failed) * work for now, work in counts)


def work_left(counts: list[tuple[Count, float]]) -> float:
    return sum(now.left * work for now, work in counts)


def sweep_of(cells: list[Cell]) -> Sweep:
    """Collect all images of these cells."""
    sweep = Sweep()
    for cell in cells:
        sweep.add(cell.folder, [file_name(*item) for item in cell.images], sum(stage_work(cell)))
    return sweep
