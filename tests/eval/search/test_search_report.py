"""What is read from the trials of a search: order, front, winners, importance."""

import pytest

optuna = pytest.importorskip("optuna")

from eval.output.manifest import NothingError  # noqa: E402
from eval.search import plots  # noqa: E402
from eval.search.trials import TrialRow, front, ordered, read_trials, winners  # noqa: E402


def row(number, rank, operations=1e9, start="", state="complete", **settings):
    return TrialRow(number, start, state, rank, settings or {"kind": f"kind {number}", "x": 0.5}, operations=operations)


ROWS = [
    row(0, 3.0, 3e9, "published"),
    row(1, 2.0, 2e9),
    row(2, 2.0, 4e9),
    row(3, 1.0, 5e9),
    row(4, 4.0, 1e9),
    row(5, 0.5, 1e9, state="stopped"),
    row(6, None, None, state="refused"),
    row(7, 1.0, 5e9, kind="kind 3", x=0.5),  # the settings of trial 3
    row(8, 1.5, 5e9, kind="kind 3", x=0.6),  # in numbers alone another one than trial 3
]


def test_complete_trials_in_order_and_each_setting_once():
    assert [found.number for found in ordered(ROWS)] == [3, 8, 1, 2, 0, 4]


def test_the_front():
    assert [found.number for found in front(ROWS)] == [4, 1, 3]


def test_winners_are_ideas_and_never_published_points():
    assert [found.number for found in winners(ROWS, 3, cost=False)] == [3, 1, 2]
    assert [found.number for found in winners(ROWS, 9, cost=True)] == [4, 1, 3]
    assert 0 not in [found.number for found in winners(ROWS, 9, cost=False)]


@pytest.fixture
def study():
    """Trials whose rank depends on x alone, and a starting point outside of the space."""
    found = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found.add_trial(optuna.trial.create_trial(value=5.0, user_attrs={"start": "published"}))
    for _ in range(60):
        trial = found.ask()
        x, _ = trial.suggest_float("x", 0, 1), trial.suggest_categorical("y", ["a", "b"])
        found.tell(trial, abs(x - 0.5))
    return found


def test_importance_finds_the_setting_that_decides(study):
    shares = plots.importances(study, read_trials(study))
    assert list(shares) == ["x", "y"]
    assert shares["x"] > 0.9


def test_few_trials_tell_no_importance(study):
    with pytest.raises(NothingError, match="19 complete trials"):
        plots.importances(study, read_trials(study)[:20])


def test_trials_of_one_cost_have_no_front():
    with pytest.raises(NothingError, match="cost the same"):
        plots.against_cost([row(0, 1.0), row(1, 2.0)], "")
    with pytest.raises(NothingError, match="no trial is complete"):
        plots.progress([row(0, 1.0, state="stopped")], "")
