"""One worker of a search: the starting points first, then trials until there are enough or it is told to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError
from sega.home import command_line
from sega.run.cell import Cell

from .bench import Bench, Found
from .definition import Definition, Value
from .journal import REFUSED, Journal
from .ranks import Population

if TYPE_CHECKING:
    from optuna import Trial

MOST_REFUSED = 100
"""Points refused one after another, after which the space is taken to be wrong."""


@dataclass(frozen=True)
class Start:
    """A starting point: its settings and cell, and its place in the space (None: it lies outside)."""

    settings: dict[str, Value]
    cell: Cell
    params: dict[str, Value] | None


def read_starts(definition: Definition, bench: Bench) -> dict[str, Start]:
    """Return the starting points by label. RequestError for one that run.py refuses."""
    found = {}
    for label, settings in definition.start.items():
        try:
            cell = bench.cell(settings)
        except RequestError as error:
            raise RequestError(f"start.{label}: {error}") from error
        found[label] = Start(settings, cell, params_of(definition, settings, cell))
    return found


def params_of(definition: Definition, settings: dict[str, Value], cell: Cell) -> dict[str, Value] | None:
    """Return the parameters of a point, with the defaults of its method; None if one is not in the space."""
    space = {dimension.key for dimension in definition.space}
    if any(definition.fixed.get(key, not value) != value for key, value in settings.items() if key not in space):
        return None
    params: dict[str, Value] = {}
    for dimension in definition.space:
        if dimension.is_used(params):
            value = settings.get(dimension.key, _default(cell, dimension.key))
            if not dimension.contains(value):
                return None
            params[dimension.name] = dimension.cast(value)
    used = {dimension.key for dimension in definition.space if dimension.name in params}
    return params if set(settings) & space <= used else None


def _default(cell: Cell, key: str) -> Any:
    value: Any = cell.config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value.get("name") if isinstance(value, dict) else value


class Worker:
    """Works on a search until it is over. `bench.session.stop` asks it to stop after the image in flight."""

    def __init__(self, definition: Definition, journal: Journal, bench: Bench):
        self.definition, self.journal, self.bench = definition, journal, bench
        self.populations: dict[int, Population] = {}
        self.costs: dict[str, float] = {}  # operations of the starting points

    def work(self) -> bool:
        """Return whether nothing is left to do; false if the worker was stopped before."""
        if not self._start():
            return False
        refused = 0
        while not self.bench.session.stop.requested:
            with self.journal.next() as trial:
                if trial is None:
                    return True
                refused = refused + 1 if self._try(trial) == "refused" else 0
            if refused >= MOST_REFUSED:
                why = f"{command_line('search-report')} out={self.journal.out} lists why"
                raise RequestError(f"{refused} points in a row were refused; {why}")
        return False

    def rungs(self, cell: Cell) -> list[int]:
        """Return the counts of prompts at which points are scored, the last one all of them."""
        return [*(count for count in self.definition.prune.after if count < len(cell.prompts)), len(cell.prompts)]

    def _start(self) -> bool:
        """Make the starting points, each worker beginning at another. Returns whether all of them are there."""
        labels, there = list(self.definition.start), self.journal.starts()
        points = read_starts(self.definition, self.bench) if len(there) < len(labels) else {}
        first = self.journal.number % len(labels)
        for label in [*labels[first:], *labels[:first]]:
            if label not in self.journal.starts() and not self._make_start(label, points[label]):
                return False
        self._rank(self.journal.starts())
        return True

    def _make_start(self, label: str, point: Start) -> bool:
        """Make and record a starting point. Returns false if the worker was stopped before."""
        reached: dict[str, Any] = {}
        for prompts in self.rungs(point.cell):
            try:
                found = self.bench.evaluate(point.cell, prompts, lock=f"start-{prompts}")
            except RequestError as error:
                raise RequestError(f"start.{label}: {error}") from error
            if found is None:
                return False
            reached[str(prompts)] = found.plain()
        about = {"settings": point.settings, "params": point.params, "found": reached}
        self.journal.add_start(label, about | {"run": str(point.cell.folder.path)})
        return True

    def _rank(self, starts: dict[str, dict[str, Any]]) -> None:
        """Rank the starting points among themselves, which fixes what every later rank is."""
        directions = self.definition.objective.directions
        for prompts in next(iter(starts.values()))["found"]:
            scores = {label: start["found"][prompts]["scores"] for label, start in starts.items()}
            self.populations[int(prompts)] = Population(scores, directions)
        whole = max(self.populations)
        ends = {label: Found(**start["found"][str(whole)]) for label, start in starts.items()}
        self.costs = {label: self._cost(found) for label, found in ends.items()}
        values = {label: self._values(self.populations[whole].ranks[label], found) for label, found in ends.items()}
        about = {label: start | self._ranks(ends[label]) for label, start in starts.items()}
        self.journal.add_start_trials(values, about)

    def _try(self, trial: Trial) -> str:
        """Make and judge a trial. Returns complete, pruned, refused, or stopped, which leaves it to be gone on with."""
        study, settings = self.journal.study, self.journal.draw(trial)
        trial.set_user_attr("settings", settings)
        words = " ".join(self.definition.words(settings)[len(self.definition.fixed) :])
        record: dict[str, Any] = {}
        try:
            cell = self.bench.cell(settings)
            trial.set_user_attr("run", str(cell.folder.path))
            for prompts in self.rungs(cell):
                found = self.bench.evaluate(cell, prompts)
                if found is None:
                    return "stopped"
                record[str(prompts)] = found.plain()
                trial.set_user_attr("found", record)
                rank = self.populations[prompts].rank(found.scores)
                beating = self._beating(rank, found)
                last = prompts == len(cell.prompts)
                if not last and len(beating) >= self.definition.prune.beaten * len(self.costs):
                    trial.set_user_attr("beaten", {"prompts": prompts, "rank": rank, "by": beating})
                    if not self.definition.objective.cost:  # Optuna takes intermediate values of one objective only
                        trial.report(rank, prompts)
                    study.tell(trial, state=_state("PRUNED"))
                    self._say(trial, f"stopped after {prompts} prompts at rank {rank:.2f}", words)
                    return "pruned"
        except RequestError as error:
            trial.set_user_attr(REFUSED, str(error))
            study.tell(trial, state=_state("PRUNED"))  # the worst of all, so that the sampler avoids what is near
            self._say(trial, f"refused ({error})", words)
            return "refused"
        for key, value in self._ranks(found).items():
            trial.set_user_attr(key, value)
        study.tell(trial, self._values(rank, found))
        self._say(trial, f"rank {rank:.2f} (best {self.best():.2f})", words)
        return "complete"

    def best(self) -> float:
        """Return the lowest mean rank of the complete trials."""
        trials = self.journal.study.get_trials(deepcopy=False, states=[_state("COMPLETE")])
        return min(trial.values[0] for trial in trials)

    def _beating(self, rank: float, found: Found) -> list[str]:
        """Return the starting points that beat a trial: at no higher cost, where cost is an objective."""
        population = self.populations[found.prompts]
        if not self.definition.objective.cost:
            return population.beating(rank)
        return population.beating(rank, [label for label, cost in self.costs.items() if cost <= self._cost(found)])

    def _ranks(self, found: Found) -> dict[str, Any]:
        return {"ranks": self.populations[found.prompts].by_metric(found.scores)}

    def _values(self, rank: float, found: Found) -> list[float]:
        return [rank, self._cost(found)] if self.definition.objective.cost else [rank]

    def _cost(self, found: Found) -> float:
        """Return the operations of an image; its calls where they can't be counted."""
        return found.calls if found.operations is None else found.operations

    def _say(self, trial: Trial, what: str, words: str) -> None:
        print(f"trial {trial.number}: {what}  {words}", flush=True)


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]
