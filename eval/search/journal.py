"""The journal of a search: an Optuna study in one file that any number of workers write to.

A trial that is running belongs to the worker with its claim (`sega.store.claims`). If that worker is dead, another one
goes on with the same trial, whose images in the store are kept.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sega.errors import RequestError
from sega.home import command_line
from sega.store.claims import Claim, Claims
from sega.store.files import locked

from .definition import Definition, Dimension, Value

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution

FILE = "journal.log"
START = "start"
"""Attribute of the trial of a starting point: its label. In the study, `start <label>` has what it reached."""
REFUSED = "why"
"""Attribute of a trial that could not be made: the reason. Optuna has it as pruned, since TPE ignores failed ones."""


def need_optuna() -> Any:
    """Return Optuna, without its messages. Raises RequestError if it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise RequestError(f"a search needs {error.name}: pip install 'sega-bench[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def load_study(out: Path, sampler: Any = None) -> Study:
    """Return the study of a folder. Raises RequestError if there is none."""
    optuna = need_optuna()
    if not (out / FILE).is_file():
        raise RequestError(f"no search in {out}; begin one with {command_line('search')}")
    storage = _storage(out)
    names = optuna.get_all_study_names(storage)
    if not names:
        raise RequestError(f"{out / FILE} is empty")
    return optuna.load_study(study_name=names[0], storage=storage, sampler=sampler)


class _Lock:
    """The lock of the journal. The system frees it when its holder dies, whose half line is cut off."""

    def __init__(self, out: Path):
        self.out, self.held = out, contextlib.ExitStack()

    def acquire(self) -> bool:
        self.held.enter_context(locked(self.out / ".locks" / FILE))
        _cut(self.out / FILE)
        return True

    def release(self) -> None:
        self.held.close()


def _storage(out: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(out / FILE), lock_obj=_Lock(out)))


def _cut(path: Path) -> None:
    with path.open("rb+") as file:
        content_end = file.seek(0, os.SEEK_END)
        file.seek(max(content_end - 2**20, 0))
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(content_end - len(tail) + tail.rfind(b"\n") + 1)


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return what Optuna draws a dimension from."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), dimension.log, int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)


class Journal:
    """The study of a definition in a folder, as one worker uses it."""

    def __init__(self, definition: Definition, out: Path, lease: float):
        optuna = need_optuna()
        self.definition, self.out, self.claims = definition, out, Claims(out, lease)
        out.mkdir(parents=True, exist_ok=True)
        with self.lock():
            storage = _storage(out)
            directions = ["minimize"] * (2 if definition.objective.cost else 1)
            there = optuna.get_all_study_names(storage)
            if not there:
                optuna.create_study(storage=storage, study_name=definition.name, directions=directions)
            study = optuna.load_study(study_name=(there or [definition.name])[0], storage=storage)
            if "definition" not in study.user_attrs:
                study.set_user_attr("definition", definition.meaning)
            _check_same(study.user_attrs["definition"], definition.meaning, out)
            number = study.user_attrs.get("workers", 0)
            study.set_user_attr("workers", number + 1)
        study.sampler = optuna.samplers.TPESampler(
            seed=None if definition.seed is None else definition.seed + number,  # workers must not draw the same
            n_startup_trials=definition.startup,
            multivariate=True,
            group=True,
            constant_liar=True,
        )
        self.study, self.number = study, number

    def lock(self) -> contextlib.AbstractContextManager[bool]:
        """Held while a worker decides what to do next."""
        return locked(self.out / ".locks" / "next")

    def starts(self) -> dict[str, dict[str, Any]]:
        """Return what the starting points reached, by label, as far as they were made."""
        attributes = self.study.user_attrs
        return {label: attributes[key] for label in self.definition.start if (key := f"{START} {label}") in attributes}

    def add_start(self, label: str, record: Mapping[str, Any]) -> None:
        """Record what a starting point reached."""
        self.study.set_user_attr(f"{START} {label}", dict(record))

    def add_start_trials(self, values: Mapping[str, list[float]], about: Mapping[str, dict[str, Any]]) -> None:
        """Add the starting points as complete trials, once. `values` are their objectives by label.

        One outside of the space has no parameters, and the sampler learns nothing from it.
        """
        from optuna.trial import create_trial

        known = {dimension.name: distribution(dimension) for dimension in self.definition.space}
        with self.lock():
            there = {trial.user_attrs.get(START) for trial in self.study.get_trials(deepcopy=False)}
            for label in self.definition.start:
                if label not in there:
                    params = about[label].get("params") or {}
                    trial = create_trial(
                        values=values[label],
                        params=params,
                        distributions={name: known[name] for name in params},
                        user_attrs={START: label, **about[label]},
                    )
                    self.study.add_trial(trial)

    @contextlib.contextmanager
    def next(self) -> Iterator[Trial | None]:
        """Hold a trial: one that a dead worker left, else a new one; None if there are as many as were asked for."""
        with self.lock():
            trial, claim = self._take()
        try:
            yield trial
        finally:
            if claim:
                claim.release()

    def _take(self) -> tuple[Trial | None, Claim | None]:
        from optuna.trial import Trial, TrialState

        made = [trial for trial in self.study.get_trials(deepcopy=False) if START not in trial.user_attrs]
        for left in (trial for trial in made if trial.state == TrialState.RUNNING):
            claim = self.claims.take(f"trial-{left.number}")
            if claim and self.study.get_trials(deepcopy=False)[left.number].state == TrialState.RUNNING:
                return Trial(self.study, left._trial_id), claim
            if claim:  # it was finished meanwhile
                claim.release()
        if sum(REFUSED not in trial.user_attrs for trial in made) >= self.definition.trials:
            return None, None
        trial = self.study.ask()
        return trial, self.claims.take(f"trial-{trial.number}")

    def draw(self, trial: Trial) -> dict[str, Value]:
        """Return the settings of a trial. Numbers have four significant digits."""
        values: dict[str, Value] = {}
        for dimension in self.definition.space:
            if dimension.is_used(values):
                values[dimension.name] = _suggested(trial, dimension)
        return {
            dimension.key: values[dimension.name] for dimension in self.definition.space if dimension.name in values
        }


def _suggested(trial: Trial, dimension: Dimension) -> Value:
    if dimension.choices:
        return trial.suggest_categorical(dimension.name, dimension.choices)
    options: dict[str, Any] = {"log": dimension.log} | ({} if dimension.step is None else {"step": dimension.step})
    if dimension.whole:
        return trial.suggest_int(dimension.name, int(dimension.low), int(dimension.high), **options)
    return float(f"{trial.suggest_float(dimension.name, dimension.low, dimension.high, **options):.4g}")


def _check_same(recorded: Any, wanted: dict[str, Any], out: Path) -> None:
    """Refuse to go on with a journal whose ranks mean something else."""
    for key in sorted({*recorded, *wanted}):
        if recorded.get(key) != wanted.get(key):
            parts = [part for part in (recorded.get(key), wanted.get(key)) if isinstance(part, dict)]
            inner = sorted({name for part in parts for name in part})
            differ = [n for n in inner if len(parts) < 2 or parts[0].get(n) != parts[1].get(n)]
            where = f"{key}.{differ[0]}" if differ else key
            raise RequestError(
                f"{out} holds a search with another {where}; a search is stated before it begins: give out=<folder>, "
                "or change the file back"
            )
