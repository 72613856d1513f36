"""What progress says, with counts from a store that others write to as well."""

import pytest
from PIL import Image

from sega import progress
from sega.progress import Count, Progress, Sweep, clock, count, rate
from sega.store import RunFolder

ABOUT = {"prompt_id": "p", "prompt": "a ball", "seed": 0}


@pytest.fixture
def folder(tmp_path):
    cell = RunFolder(tmp_path, "tiny", "sega", (8, 8), {"steps": 1})
    cell.open({})
    return cell


@pytest.fixture
def time(monkeypatch):
    """A clock that stands until it is set."""
    now = {"seconds": 100.0}
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now["seconds"])
    return now


def add(folder, *names):
    for name in names:
        folder.add(name, Image.new("RGB", (8, 8)), ABOUT)


def test_counts_come_from_the_records(folder):
    names = {f"{k}.png" for k in range(6)}
    add(folder, "0.png", "1.png", "other prompts.png")
    folder.add_failed("2.png", ABOUT | {"reason": "NaN"})
    folder.add_failed("1.png", ABOUT | {"reason": "made since"})
    now = count(folder, names)
    assert now == Count(6, 2, 1) and now.left == 3


def test_rates_and_time_left_of_this_worker_and_of_all(folder, time):
    names = {f"{k}.png" for k in range(12)}
    add(folder, "0.png", "1.png")  # there before, so no part of the rate
    said = Progress("cell", lambda: count(folder, names))
    time["seconds"] += 60
    add(folder, "2.png", "3.png")
    said.step(made=True)
    said.step(made=True)
    assert said.line() == "4/12 images, 8 left; 2 here at 2/min; about 4:00 min left"
    add(folder, "4.png", "5.png")  # by another worker
    assert said.line() == "6/12 images, 6 left; 2 here at 2/min; all workers 4/min; about 1:30 min left"


def test_a_sweep_is_counted_over_its_cells(folder, tmp_path, time):
    other = RunFolder(tmp_path, "tiny", "ntk", (8, 8), {"steps": 1})
    sweep = Sweep()
    sweep.add(folder, ["0.png", "1.png"])
    sweep.add(other, ["0.png", "1.png"])
    sweep.add(folder, ["1.png", "2.png"])  # the same cell again, with other prompts
    said = Progress("cell", lambda: count(folder, {"0.png", "1.png", "2.png"}), sweep)
    time["seconds"] += 10
    add(folder, "0.png")
    said.step(made=True)
    assert said.line().endswith("in total 1/5 images, 4 left, about 40 s left")
    folder.add_failed("1.png", ABOUT | {"reason": "NaN"})
    assert sweep.count() == Count(5, 1, 1) and sweep.failures() == [folder]


def test_plain_logs_get_a_line_now_and_then(folder, time, capsys):
    said = Progress("cell", lambda: count(folder, {"0.png", "1.png", "2.png"}), every=10)
    for seconds, name in ((5, "0.png"), (6, "1.png")):
        time["seconds"] += seconds
        add(folder, name)
        said.step(made=True)
    said.warn("something")
    said.close()
    assert capsys.readouterr().err.splitlines() == [
        "cell  2/3 images, 1 left; 2 here at 11/min; about 6 s left",
        "warning: something",
    ]


@pytest.mark.parametrize("seconds, text", [(12.4, "12 s"), (59.6, "1:00 min"), (187, "3:07 min"), (7509, "2:05:09 h")])
def test_times_are_easy_to_read(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize("images, seconds, text", [(5, 2, "2.5/s"), (1, 5, "12/min"), (2, 1014, "7.1/h")])
def test_rates_are_easy_to_read(images, seconds, text):
    assert rate(images, seconds) == text
