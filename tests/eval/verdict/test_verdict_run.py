"""The test from its plan to its page, in small: rounds, scores, records without images, and processes that fail."""

import contextlib
import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from shlex import split

import pytest
import yaml
from verdict_plan import PLAN, WINNERS, written

from eval.verdict import command, make
from eval.verdict.types import read
from eval.verdict.workers import Workers
from sega.loading import devices
from sega.run.request import read_request

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A made and scored test with its page and its archives, and what was printed."""
    folder = tmp_path_factory.mktemp("verdict")
    places = {
        "store": folder / "test" / "runs",
        "cache": folder / "cache",
        "out": folder / "out",
        "pack": folder / "pack",
    }
    files = {"plan": written(folder, "plan", PLAN), "winners": written(folder, "winners", WINNERS)}
    words = [f"{key}={value}" for key, value in (places | files).items()]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = command.main(["make", "score", "sheets", "page", "pack", "device=cpu", *words])
    assert status == 0, said.getvalue()
    return folder, words, said.getvalue()


def test_every_entry_has_the_captions_of_the_last_round_and_an_absent_model_is_left_out(done):
    folder, _, said = done
    cells = list((folder / "test" / "runs").glob("wide/*/*/*/*"))
    assert len(cells) == 5
    assert [len(list(cell.glob("*.png"))) for cell in cells] == [4] * 5
    assert "wide: 2 captions of 5 entries" in said and "wide: 4 captions of 5 entries" in said
    assert "elsewhere: left out: unknown model 'absent'" in said


def test_what_is_there_is_not_made_again(done, capsys):
    folder, words, _ = done
    before = {path: path.stat().st_mtime_ns for path in folder.glob("test/runs/*/*/*/*/*/*")}
    assert command.main(["make", "score", "device=cpu", *words]) == 0
    assert "4 made" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before if path.suffix == ".png"} == {
        path: stamp for path, stamp in before.items() if path.suffix == ".png"
    }


def test_captions_that_another_machine_made_are_left_out(done, tmp_path, capsys):
    _, words, _ = done
    own = [*words, f"store={tmp_path / 'test' / 'runs'}", "places=wide", "device=cpu"]
    assert command.main(["make", "first=3", *own]) == 0
    cells = list((tmp_path / "test" / "runs" / "wide").glob("*/*/*/*"))
    assert [len(list(cell.glob("*.png"))) for cell in cells] == [1] * 5
    fourth = (tmp_path / "test" / "captions.txt").read_text().splitlines()[3]
    assert all(fourth in (cell / "images.jsonl").read_text() for cell in cells)
    assert command.main(["make", "first=4", *own]) == 0
    assert "no round has more than 4 captions" in capsys.readouterr().out


def test_the_facts_are_of_the_entries_of_the_plan(done):
    answers = read(done[0] / "out" / "answers.json")
    (spot,) = answers.spots
    assert (spot.name, spot.model, spot.size, spot.n) == ("wide", "tiny", "256x192", 4)
    (finding,) = answers.questions[0].findings
    assert finding.pairs == [("yarn", "vanilla"), ("even", "vanilla")]
    assert {effect.metric for effect in finding.effects} == {"fid", "attribute_accuracy", "high_frequency"}
    assert {margin.label for margin in spot.margins} == {"direct-9", "direct-7"}
    assert [method.label for method in spot.field.methods] == ["vanilla", "yarn"]
    page = (done[0] / "out" / "index.html").read_text()
    assert "4 captions are too few" in page and "sheet-wide-1.jpg" in page


def test_records_without_images_give_the_same_facts_and_the_same_page(done, tmp_path, capsys):
    folder, words, _ = done
    for path in (folder / "pack").iterdir():
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path, filter="data")
    assert not list(tmp_path.rglob("*.png"))
    out = tmp_path / "again"
    places = [f"store={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}", f"out={out}"]
    assert command.main(["page", *words, *places]) == 0
    assert (out / "answers.json").read_bytes() == (folder / "out" / "answers.json").read_bytes()
    assert command.main(["sheets", *words, *places]) == 0
    assert "no sheet is drawn" in capsys.readouterr().err
    (tmp_path / "images").mkdir()
    for path in tmp_path.glob("sheet-*.jpg"):
        path.rename(tmp_path / "images" / path.name)
    assert command.main(["page", *words, f"store={tmp_path / 'none'}", f"out={tmp_path}"]) == 0
    assert (tmp_path / "index.html").read_bytes() == (folder / "out" / "index.html").read_bytes()


def test_references_are_made_before_and_are_those_that_scoring_looks_for(done, tmp_path, capsys):
    folder, words, _ = done
    own = [*words, f"store={tmp_path / 'test' / 'runs'}", f"cache={tmp_path / 'cache'}"]
    assert command.main(["references", *own]) == 0
    said = capsys.readouterr().out
    assert "references of 2 captions at 256x192" in said and "references of 4 captions at 256x192" in said
    used = {path.name for path in (folder / "cache" / "references").iterdir()}
    made = {path.name for path in (tmp_path / "cache" / "references").iterdir()}
    assert used and used <= made
    captions = tmp_path / "others.txt"
    captions.write_text("a harbour at dawn\n")
    assert command.main(["references", *own, f"captions={captions}", f"store={tmp_path / 'more' / 'runs'}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_places_that_another_machine_made_stay_on_the_page(done, tmp_path, capsys):
    folder, words, _ = done
    found = json.loads((folder / "out" / "answers.json").read_text())
    (spot,), (asked,) = found["spots"], found["questions"]
    other = {"name": "another", "model": "tiny2"}
    found["spots"].insert(0, spot | other)
    asked["findings"].insert(0, asked["findings"][0] | {"place": "another"})
    found["questions"].append(asked | {"name": "more", "findings": asked["findings"][:1]})
    spot["n"] = 1  # of the place that is here, so it is found anew
    record = tmp_path / "answers.json"
    record.write_text(json.dumps(found))
    assert command.main(["page", *words, f"out={tmp_path}"]) == 0
    assert f"kept from {record}: another" in capsys.readouterr().err
    answers = read(record)
    assert [(spot.name, spot.n) for spot in answers.spots] == [("another", 4), ("wide", 4)]
    findings = {asked.name: [finding.place for finding in asked.findings] for asked in answers.questions}
    assert findings == {answers.questions[0].name: ["another", "wide"], "more": ["another"]}
    assert answers.paired == ("another", "wide") and answers.both
    record.write_text(json.dumps(found | {"captions": "others"}))
    assert command.main(["page", *words, f"out={tmp_path}"]) == 0
    assert record.read_bytes() == (folder / "out" / "answers.json").read_bytes()


def test_a_place_that_follows_another_has_the_captions_behind_it(done, tmp_path, capsys):
    folder, words, _ = done
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    again = {"model": "tiny", "res": "256x192", "groups": ["core"], "entries": ["yarn", "vanilla"]}
    plan["places"]["again"] = again | {"follows": "wide", "words": {"model.dtype": "float32"}}
    plan["rounds"].append(["again", 6])
    shutil.copy(folder / "out" / "answers.json", tmp_path)
    own = [word for word in words if not word.startswith(("plan=", "out=", "store=", "pack="))]
    own += [f"plan={written(tmp_path, 'plan', plan)}", f"out={tmp_path}", f"store={tmp_path / 'test' / 'runs'}"]
    own += ["device=cpu", "places=again"]
    assert command.main(["references", "make", "score", "sheets", "page", *own]) == 0
    said = capsys.readouterr().out
    assert "references of 2 captions at 256x192" in said and "again: 6 captions of 3 entries" in said
    cells = list((tmp_path / "test" / "runs" / "again").glob("*/*/*/*"))
    assert [len(list(cell.glob("*.png"))) for cell in cells] == [2] * 3
    captions = (tmp_path / "test" / "captions.txt").read_text().splitlines()
    assert all(caption in (cell / "images.jsonl").read_text() for cell in cells for caption in captions[4:])
    answers = read(tmp_path / "answers.json")
    assert [(spot.name, spot.n) for spot in answers.spots] == [("wide", 4), ("again", 2), ("wide and again", 6)]
    assert [f.place for f in answers.questions[0].findings] == ["wide", "again", "wide and again"]
    assert (tmp_path / "images" / "sheet-again-1.jpg").is_file()
    assert command.main(["lines", *own]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    (cell,) = read_request(split(line)[2:]).cells
    assert [prompt.text for prompt in cell.prompts] == captions[4:] and len(list(cell.folder.path.glob("*.png"))) == 2


def test_a_store_from_before_is_read_beside_the_test_and_alone_is_none(done, tmp_path):
    folder, words, _ = done
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    plan["places"]["before"] = plan["places"]["wide"] | {"made": str(folder / "test" / "runs" / "wide")}
    own = [word for word in words if not word.startswith(("plan=", "out="))]
    own += [f"plan={written(tmp_path, 'plan', plan)}", f"out={tmp_path}"]
    assert command.main(["page", *own]) == 0
    answers = (tmp_path / "answers.json").read_bytes()
    assert [spot.name for spot in read(tmp_path / "answers.json").spots] == ["wide", "before"]
    assert command.main(["page", *own, f"store={tmp_path / 'none'}"]) == 0
    assert (tmp_path / "answers.json").read_bytes() == answers


def test_lines_are_commands_of_the_same_cells(done, capsys):
    folder, words, _ = done
    assert command.main(["lines", *words, "places=wide"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    (cell,) = read_request(split(lines[1])[2:]).cells
    assert len(list(cell.folder.path.glob("*.png"))) == 4


@pytest.mark.parametrize(
    "words, said",
    [
        (["mak"], "unknown step mak; did you mean 'make' or 'pack'?"),
        (["page", "places=2"], "places=2 is not in the plan"),
        (["make", "first=soon"], "first=soon must be a whole number"),
        (["make", "minutes=soon"], "minutes=soon must be a number"),
        (["page", "winners=nothing.yaml"], "no file of winners at nothing.yaml"),
        (["page", "store=nothing", "out=nothing"], "make and score them first"),
    ],
)
def test_wrong_words_are_answered_in_a_line(words, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert command.main(words) == 2
    assert said in capsys.readouterr().err


def test_a_round_that_would_not_end_in_time_is_not_begun():
    pace = make.Pace()
    assert pace.seconds("2x", 100, 50) == 0
    pace.learn("2x", 100, images=50, seconds=10.0)
    assert pace.seconds("2x", 100, 50) == pytest.approx(10)
    assert pace.seconds("4x", 400, 50) == pytest.approx(40)
    pace.learn("4x", 400, images=50, seconds=0.001)  # they were there
    assert pace.seconds("4x", 400, 50) == pytest.approx(40)


def _part(kind):
    if kind == "error":
        raise ValueError("a part failed")
    if kind == "killed":
        os._exit(1)
    return kind


@pytest.mark.parametrize("count", [1, 2])
def test_parts_that_fail_do_not_stop_the_rest(count, tmp_path, capsys):
    with Workers(count, tmp_path) as workers:
        assert workers.run(_part, [(0,), ("error",), (1,), (0,)], time.monotonic() + 60) == 2
        assert "ValueError: a part failed" in capsys.readouterr().err
        assert workers.run(_part, [(1,)] * 20, time.monotonic() - 1) == 0  # after the end none is begun


HOLD = """
import fcntl, time
from pathlib import Path

def hold(folder):
    file = open(Path(folder) / "lock", "w")
    fcntl.flock(file, fcntl.LOCK_EX)
    Path(folder, "held").touch()
    time.sleep(600)
"""


def test_processes_end_with_the_one_that_began_them_even_if_it_is_killed(tmp_path):
    (tmp_path / "held_part.py").write_text(HOLD)
    code = (
        "import sys, math; from pathlib import Path; from held_part import hold\n"
        "from eval.verdict.workers import Workers\n"
        "with Workers(2, Path(sys.argv[1]) / 'logs') as workers: workers.run(hold, [(sys.argv[1],)], math.inf)"
    )
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=os.environ | path)
    try:
        assert within(60, (tmp_path / "held").exists)
    finally:
        parent.kill()
        parent.wait()
    with open(tmp_path / "lock") as file:
        assert within(30, lambda: free(file))


def within(seconds, found):
    end = time.monotonic() + seconds
    while not (there := found()) and time.monotonic() < end:
        time.sleep(0.05)
    return there


def free(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_a_cpu_that_is_slow_in_bfloat16_is_told_once(done, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(devices, "slow", lambda dtype, device: f"{dtype} is slow on {device}")
    _, words, _ = done
    assert command.main(["make", *words, "places=wide", "device=cpu"]) == 0
    assert capsys.readouterr().out.count("warning: float32 is slow on cpu\n") == 1


def test_a_killed_process_costs_one_round(tmp_path, capsys):
    with Workers(2, tmp_path) as workers:
        assert workers.run(_part, [("killed",), (0,)], time.monotonic() + 60) == 1
        assert "a process ended" in capsys.readouterr().out
        assert workers.run(_part, [(0,), (0,)], time.monotonic() + 60) == 0
