"""A search on the small random model, from the command line to the journal, the store and the report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("optuna")

from small import words  # noqa: E402

from eval.hooks import HOOKS  # noqa: E402
from eval.records.scores import read_scores  # noqa: E402
from eval.search import journal  # noqa: E402
from eval.search.command import main  # noqa: E402
from eval.search.ranks import Population  # noqa: E402
from eval.search.read import read_definition  # noqa: E402
from eval.search.report import main as report  # noqa: E402
from eval.search.trials import front, read_trials, winners  # noqa: E402
from sega.run.request import read_request  # noqa: E402
from sega.store.cell_folder import run_folders  # noqa: E402
from sega.store.rows import ROW_KEYS, read_rows  # noqa: E402

WORKER = Path(__file__).resolve().parents[2] / "helpers" / "search_worker.py"
SEARCH = {
    "fixed": {"res": "1x", "prompts.seed": 7001, "prompts.count": 4, "seeds": 7001, "guidance": 1.0},
    "space": {
        "method": {"choice": ["ntk", "dype"]},
        "method.lambda_t": {"float": [0.5, 4.0], "log": True, "when": {"method": "dype"}},
        "steps": {"int": [1, 3]},
    },
    "start": {
        "vanilla": {"method": "vanilla", "steps": 1},
        "NTK": {"method": "ntk", "steps": 2},
        "DyPE": {"method": "dype", "steps": 3},
    },
    "objective": {
        "eval": "embedded",
        "options": {"reference.least": 4, "workers": 0},
        "metrics": {"spectrum_distance": "lower", "high_frequency": "zero"},
    },
    "prune": {"after": 2, "beaten": 0.6},
    "sampler": {"startup": 5, "seed": 3},
    "trials": 8,
}


class Place:
    """A folder with the file of a search, its store and its journal."""

    def __init__(self, folder, weights, cache, **changes):
        self.folder, self.out = folder, folder / "out"
        (folder / "search").mkdir(parents=True)
        (folder / "search" / "probe.yaml").write_text(yaml.safe_dump(SEARCH | changes, sort_keys=False))
        own = [f"--config-dir={folder}", "search=probe", f"out={self.out}", f"cache={cache}", "device=cpu"]
        self.words = [*own, *words(weights)]

    def run(self, *more):
        return main([*self.words, *more])

    def start(self, **environment):
        """A worker in a process of its own."""
        log = {"SEARCH_LOG": str(self.folder / "log"), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, WORKER, *self.words], env=os.environ | log | environment)

    def trials(self):
        return read_trials(journal.load_study(self.out))

    def images(self):
        """Path and time of each image."""
        return {path: path.stat().st_mtime_ns for path in self.out.glob("runs/*/*/*/*/*.png")}

    def rows(self):
        return [row for cell in run_folders(self.out / "runs") for row in read_rows(cell / "images.jsonl", ROW_KEYS)[0]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """References, which all searches here share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def done(tiny_folder, tmp_path_factory, cache):
    """A search that is over."""
    place = Place(tmp_path_factory.mktemp("search"), tiny_folder, cache)
    assert place.run() == 0
    return place


@pytest.fixture
def place(tiny_folder, tmp_path, cache):
    return lambda **changes: Place(tmp_path / "search", tiny_folder, cache, **changes)


def test_starting_points_come_first_and_trials_are_counted_without_them(done):
    trials = done.trials()
    assert [row.start for row in trials[:3]] == list(SEARCH["start"])
    assert [row.state for row in trials[:3]] == ["complete"] * 3
    assert len(trials) == 3 + SEARCH["trials"]
    assert {row.state for row in trials} == {"complete", "stopped"}


def test_a_starting_point_in_the_space_teaches_the_sampler_with_the_defaults_of_its_method(done):
    start = journal.load_study(done.out).trials[:3]
    assert start[0].params == {}  # vanilla is not in the space
    assert start[1].params == {"method": "ntk", "steps": 2}
    assert start[2].params == {"method": "dype", "method.lambda_t": 2.0, "steps": 3}


def test_scores_are_those_of_the_evaluation_and_the_rank_follows_from_them(done):
    trials = [row for row in done.trials() if row.state == "complete"]
    scores = {row.label: row.scores for row in trials}
    population = Population({label: scores[label] for label in SEARCH["start"]}, SEARCH["objective"]["metrics"])
    for row in trials:
        block = read_scores(Path(row.run), "embedded")
        assert row.scores == {name: block["metrics"][name]["value"] for name in SEARCH["objective"]["metrics"]}
        assert (row.prompts, row.images, block["n"]) == (4, 4, 4)
        assert row.rank == pytest.approx(population.rank(row.scores))
        assert row.ranks == pytest.approx(population.by_metric(row.scores))


def test_a_trial_is_stopped_where_enough_starting_points_beat_it_on_the_same_prompts(done):
    study = journal.load_study(done.out)
    starts = {label: study.user_attrs[f"start {label}"]["found"]["2"]["scores"] for label in SEARCH["start"]}
    population = Population(starts, SEARCH["objective"]["metrics"])
    tried = [trial for trial in study.trials if "start" not in trial.user_attrs]
    for trial in tried:
        rank = population.rank(trial.user_attrs["found"]["2"]["scores"])
        assert (trial.state.name == "PRUNED") == (len(population.beating(rank)) >= 0.6 * 3)
    stopped = [row for row in done.trials() if row.state == "stopped"]
    assert stopped and all(row.prompts == 2 for row in stopped)


def test_the_images_are_those_of_run_py(done):
    for row in done.trials():
        fixed = [word for word in done.words if word.startswith("model")]
        fixed += [f"{key}={value}" for key, value in SEARCH["fixed"].items()]
        store = f"store={done.out / 'runs'}"
        cell = read_request([*fixed, *row.overrides, store, "device=cpu"], HOOKS).cells[0]
        assert str(cell.folder.path) == row.run
        assert len(cell.folder.rows()) >= row.images


def test_the_same_command_again_makes_nothing_and_more_trials_go_on(place, capsys):
    place = place(trials=2)
    assert place.run() == 0
    images, trials = place.images(), place.trials()
    assert place.run() == 0
    assert place.images() == images and len(place.trials()) == len(trials)
    assert place.run("trials=4") == 0
    assert len(place.trials()) == len(trials) + 2
    assert place.images().items() >= images.items()


@pytest.mark.parametrize("image", [6, 14])  # in a starting point, in a trial
def test_a_worker_that_is_killed_loses_nothing(place, image):
    place = place(trials=3, prune={})
    assert place.start(SEARCH_KILL=str(image)).wait() == -9
    before, left = place.images(), [row for row in place.trials() if row.state == "running"]
    assert image - 2 <= len(before) < image  # the last one may be half written
    assert len(left) == (image > 12)
    assert place.run() == 0
    trials = {row.number: row for row in place.trials()}
    assert place.images().items() >= before.items()
    assert len(trials) == 6 and all(row.state == "complete" for row in trials.values())
    assert all(trials[row.number].settings == row.settings for row in left)


def test_a_trial_that_another_worker_finishes_at_this_moment_is_not_taken_up(place):
    place = place(trials=3)
    mine = journal.Journal(read_definition("probe", {}, [place.folder]), place.out, lease=60)
    other = mine.study.ask()
    take = mine.claims.take

    def late(name):
        if name == f"trial-{other.number}":
            mine.study.tell(other, 1.0)
        return take(name)

    mine.claims.take = late
    with mine.next() as trial:
        assert trial.number == other.number + 1
        with mine.next() as second:  # the first is held, by a living worker
            assert second.number == other.number + 2
    with mine.next() as left:  # nobody holds it any more
        assert left.number == trial.number


def test_half_a_line_of_the_journal_is_cut_off(place):
    place = place(trials=1)
    assert place.run() == 0
    with (place.out / "journal.log").open("a") as file:
        file.write('{"op_code":6,"worker')
    assert place.run("trials=2") == 0
    assert len(place.trials()) == 5


def test_workers_share_a_search_and_no_image_is_made_twice(place):
    place = place(trials=6)
    workers = [place.start() for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    trials, made = place.trials(), (place.folder / "log").read_text().splitlines()
    assert [row.start for row in trials].count("") == 6 and len(trials) == 9
    assert {row.state for row in trials} <= {"complete", "stopped"}
    assert len({line.split()[0] for line in made}) == 2
    assert len(made) == len(place.images()) == len(place.rows())
    assert len({line.partition(" ")[2] for line in made}) == len(made)


def test_what_a_method_refuses_is_recorded_and_the_search_goes_on(place, capsys):
    space = {"method": {"choice": ["dype"]}, "method.base": {"choice": ["ntk", "yarn", "nonsense"]}}
    place = place(space=space, trials=4, prune={})
    assert place.run() == 0
    rows = [row for row in place.trials() if not row.start]
    refused = [row for row in rows if row.state == "refused"]
    assert [row.state for row in rows].count("complete") == 4
    assert refused and all("nonsense" in row.why for row in refused)
    assert "refused (" in capsys.readouterr().out


def test_a_space_of_refused_points_ends_in_a_line(place, capsys, monkeypatch):
    monkeypatch.setattr("eval.search.worker.MOST_REFUSED", 4)
    place = place(space={"method": {"choice": ["dype"]}, "method.base": {"choice": ["nonsense"]}})
    assert place.run() == 2
    assert "4 points in a row were refused" in capsys.readouterr().err


def test_minutes_end_a_worker_cleanly(place, capsys):
    place = place(trials=1000)
    assert place.run("minutes=0.05") == 0
    assert "stopped" in capsys.readouterr().out
    assert not list((place.out / ".claims").glob("*"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["res=2x"], "another fixed.res"),
        (["trials=x"], "trials=x must be a whole number"),
        (["minutes=0"], "minutes=0 must be a number above 0"),
        (["stepz=3"], "unknown key 'stepz'"),
        (["steps=3"], "steps is searched"),
        (["search=prob"], "unknown search=prob"),
        (["device=tpu"], "device=tpu"),
    ],
)
def test_wrong_words_get_a_line(done, capsys, words, line):
    before = (done.out / "journal.log").read_bytes()
    assert done.run(*words) == 2
    assert line in capsys.readouterr().err
    assert (done.out / "journal.log").read_bytes() == before


def test_without_optuna_there_is_a_line(done, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert done.run() == 2
    assert "pip install 'sega-bench[search]'" in capsys.readouterr().err
    assert report([f"out={done.out}"]) == 2


def test_the_report_states_what_its_numbers_are_of(done, capsys):
    assert report([f"out={done.out}", "winners=2"]) == 0
    folder, trials = done.out / "report", done.trials()
    text = (folder / "best.md").read_text()
    stopped = sum(row.state == "stopped" for row in trials)
    assert f"8 trials ({8 - stopped} complete, {stopped} stopped after 2 prompts)" in text
    assert "4 images of 4 prompts" in text and "prompts.seed=7001" in text and "high_frequency (zero)" in text
    assert len((folder / "trials.csv").read_text().splitlines()) == 1 + len(trials)
    kept = yaml.safe_load((folder / "winners.yaml").read_text())
    best = winners(trials, 2, cost=False)
    assert [winner["overrides"] for winner in kept["winners"]] == [row.overrides for row in best]
    assert kept["trials"] == 8
    assert (folder / "progress.png").stat().st_size > 5000
    assert "no importance.png" in capsys.readouterr().err


def test_a_report_is_found_by_the_name_of_its_search(done, tmp_path, monkeypatch):
    (tmp_path / "results" / "search" / "probe").mkdir(parents=True)
    (tmp_path / "results" / "search" / "probe" / "journal.log").write_bytes((done.out / "journal.log").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert report(["search=probe"]) == 0
    assert (tmp_path / "results" / "search" / "probe" / "report" / "best.md").is_file()


def test_cost_as_a_second_objective(place, capsys):
    place = place(objective=SEARCH["objective"] | {"cost": True}, trials=14)
    assert place.run() == 0
    study, trials = journal.load_study(place.out), place.trials()
    assert len(study.directions) == 2
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert all(trial.values[1] == trials[trial.number].operations for trial in complete)
    steps = {row.settings["steps"]: row.operations for row in trials if row.operations}
    assert steps[3] - steps[2] == pytest.approx(steps[2] - steps[1])
    best = front(trials)
    assert [row.cost for row in best] == sorted({row.cost for row in best})
    assert [row.rank for row in best] == sorted((row.rank for row in best), reverse=True)
    for row in (row for row in trials if row.state == "stopped"):  # never by points that cost more
        assert row.operations >= min(trials[k].operations for k in range(3))
    assert set(winners(trials, 9, cost=True)) == {row for row in best if not row.start}
    assert report([f"out={place.out}"]) == 0
    assert (place.out / "report" / "front.png").is_file()
    json.dumps(study.user_attrs)
