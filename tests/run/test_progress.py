"""What progress says, with counts from a store that others write to as well, by a clock that is set."""

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sega.run import progress, terminal
from sega.run.progress import Progress
from sega.run.quantities import clock, rate
from sega.run.sweep import Count, Share, Sweep
from sega.store.cell_folder import RunFolder

ABOUT = {"prompt_id": "p", "prompt": "a ball", "seed": 0}
ROOT = Path(__file__).resolve().parents[2]


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


def images(count):
    return {f"{k}.png" for k in range(count)}


def line(said):
    return ", ".join(text for _, text in said.parts())


def test_counts_come_from_the_records(folder):
    add(folder, "0.png", "1.png", "other prompts.png")
    folder.add_failed("2.png", ABOUT | {"reason": "NaN"})
    folder.add_failed("1.png", ABOUT | {"reason": "made since"})
    now = Share(folder, images(6)).count()
    assert now == Count(6, 2, 1) and now.left == 3


def test_rates_and_time_left_of_this_worker_and_of_all(folder, time):
    add(folder, "0.png", "1.png")  # there before, so no part of the rate
    said = Progress("cell", Share(folder, images(12)))
    time["seconds"] += 500  # loading, which says nothing about images
    said.begin()
    assert line(said) == "image 3 of 12, step 0 of 1"
    time["seconds"] += 60
    add(folder, "2.png", "3.png")
    said.done(made=True)
    said.done(made=True)
    assert line(said) == "image 5 of 12, step 0 of 1, 2/min, about 4:00 min left"
    add(folder, "4.png", "5.png")  # by another worker
    folder.add_failed("6.png", ABOUT | {"reason": "NaN"})
    said.done(made=False)
    assert line(said) == "image 8 of 12, step 0 of 1, 2/min, all workers 5/min, about 1:00 min left, 1 failed"


def test_the_line_moves_with_the_steps_of_all_stages(folder, time):
    """Ten cheap steps and four that cost as much together again: after five the image is a quarter done."""
    said = Progress("cell", Share(folder, images(2), 2.0), stages=[(10, 1.0), (4, 1.0)])
    said.begin()
    time["seconds"] += 5
    said.step(0, 5)
    assert line(said) == "image 1 of 2, step 5 of 14, about 35 s left"
    time["seconds"] += 10
    said.step(1, 2)
    assert line(said) == "image 1 of 2, step 12 of 14, about 25 s left"


def test_a_sweep_is_counted_over_its_cells(folder, tmp_path, time):
    other = RunFolder(tmp_path, "tiny", "ntk", (8, 8), {"steps": 1})
    sweep = Sweep()
    sweep.add(folder, ["0.png", "1.png"])
    sweep.add(other, ["0.png", "1.png"])
    sweep.add(folder, ["1.png", "2.png"])  # the same cell again, with other prompts
    said = Progress("cell", Share(folder, images(3)), sweep)
    said.begin()
    time["seconds"] += 10
    add(folder, "0.png")
    said.done(made=True)
    assert line(said) == "image 2 of 3, step 0 of 1, 6/min, about 40 s left, 1 of 5 in all"
    folder.add_failed("1.png", ABOUT | {"reason": "NaN"})
    assert sweep.count() == Count(5, 1, 1) and sweep.failures() == [folder]


def test_the_time_left_of_a_sweep_is_right_from_the_first_image_on(tmp_path, time):
    """Cells of four costs, run one after the other; real seconds depart from what was counted by up to a third."""
    cells = [("vanilla", 1.0, 1.0), ("sega", 5.0, 6.5), ("scalediff", 6.0, 8.0), ("upsample", 1.5, 1.0)]
    sweep, folders, each = Sweep(), {}, 4
    for name, work, _ in cells:
        folders[name] = RunFolder(tmp_path, "tiny", name, (8, 8), {"steps": 1})
        folders[name].open({})
        sweep.add(folders[name], list(images(each)), work)
    left, first = sum(each * seconds for _, _, seconds in cells), True
    for name, work, seconds in cells:
        time["seconds"] += 30  # loading
        said = Progress(name, Share(folders[name], images(each), work), sweep, [(20, work)])
        said.begin()
        for number in range(each):
            for step in (10, 20):
                time["seconds"] += seconds / 2
                left -= seconds / 2
                said.step(0, step)
                if not first and left > 1:
                    assert left / 2 <= said.time_left() <= left * 2, (name, number, step)
            add(folders[name], f"{number}.png")
            said.done(made=True)
            if left > 1:
                assert left / 2 <= said.time_left() <= left * 2, (name, number)
            first = False
        said.close()
    assert said.time_left() is None and left == pytest.approx(0)


def test_counted_work_is_that_of_stages_and_of_sizes(tmp_path):
    """2x takes five to six times as long as 1x on a CPU, and the base image of `upsample` a third of 2x."""
    from sega.run.cost import stage_work
    from sega.run.request import read_request

    words = ["-m", "model=tiny", "res=1x,2x", "method=vanilla,hiflow,upsample", f"store={tmp_path}"]
    work = {(cell.method.name, cell.request.size[0]): stage_work(cell) for cell in read_request(words).cells}
    assert 4.5 < work["vanilla", 384][0] / work["vanilla", 192][0] < 6
    assert 0.2 < sum(work["upsample", 384]) / work["vanilla", 384][0] < 0.4
    first, second = work["hiflow", 384]
    assert first < work["upsample", 384][0] < 1.1 * first  # which is decoded
    assert 0.8 < (first + second) / work["vanilla", 384][0] < 1.2


def test_plain_logs_get_a_line_now_and_then_within_a_slow_image_too(folder, time, capsys):
    said = Progress("cell", Share(folder, images(3)), stages=[(20, 1.0)], every=10)
    said.begin()
    for step in range(1, 21):
        time["seconds"] += 2
        said.step(0, step)
    add(folder, "0.png")
    said.done(made=True)
    said.wait("loading")
    said.warn("something")
    said.note("memory: plenty", once=True)
    said.note("memory: plenty", once=True)
    said.close()
    assert capsys.readouterr().err.splitlines() == [
        "cell  image 1 of 3, step 5 of 20, about 1:50 min left",
        "cell  image 1 of 3, step 10 of 20, about 1:40 min left",
        "cell  image 1 of 3, step 15 of 20, about 1:30 min left",
        "cell  image 1 of 3, step 20 of 20, about 1:20 min left",
        "warning: something",
        "memory: plenty",
    ]


PARTS = [(1, "image 3 of 8"), (3, "step 12 of 20"), (4, "25/min"), (2, "about 1:23 min left"), (5, "87 of 135 in all")]


@pytest.mark.parametrize(
    "width, text",
    [
        (100, "tiny sega  image 3 of 8, step 12 of 20, 25/min, about 1:23 min left, 87 of 135 in all"),
        (79, "tiny sega  image 3 of 8, step 12 of 20, 25/min, about 1:23 min left"),
        (60, "tiny sega  image 3 of 8, step 12 of 20, about 1:23 min left"),
        (58, "tiny sega  image 3 of 8, about 1:23 min left"),
        (30, "tiny sega  image 3 of 8"),
        (9, "tiny sega"),
        (5, "tiny…"),
    ],
)
def test_the_line_fits_the_terminal_and_keeps_what_matters_most(width, text):
    assert terminal.fitted("tiny sega", PARTS, width) == text


def test_wide_characters_take_two_columns():
    assert terminal.columns("雪 abc") == 6 and terminal.columns("é") == terminal.columns("e\u0301") == 1
    cuts = [terminal.cut("雪雪雪", width) for width in (6, 5, 4, 1)]
    assert cuts == ["雪雪雪", "雪雪…", "雪…", "…"]


def test_the_line_comes_back_after_a_warning_and_a_resize(folder, time, monkeypatch, capsys):
    size = {"width": 60}
    monkeypatch.setattr(terminal.Line, "width", lambda self: size["width"])
    said = Progress("cell", Share(folder, images(3)), stages=[(20, 1.0)])
    said.line = terminal.Line(stream := io.StringIO())
    said.begin()
    time["seconds"] += 10
    said.step(0, 10)
    text = "cell  image 1 of 3, step 10 of 20, about 50 s left"
    assert stream.getvalue().endswith(f"\r\033[J{text}")
    stream.truncate(0)
    said.warn("something")
    assert stream.getvalue().strip("\0") == f"\r\033[J\r\033[J{text}"
    assert capsys.readouterr().err == "warning: something\n"
    size["width"] = 20  # the 50 columns on the screen are three lines now
    stream.truncate(0)
    said.next()
    assert stream.getvalue().strip("\0") == "\033[2A\r\033[Jcell  image 1 of 3"
    said.close()
    assert stream.getvalue().endswith("\r\033[J")


def test_movements_are_no_more_than_ten_a_second(folder, time):
    said = Progress("cell", Share(folder, images(3)), stages=[(100, 1.0)])
    said.line = terminal.Line(stream := io.StringIO())
    said.begin()
    for step in range(1, 101):
        time["seconds"] += 0.01
        said.step(0, step)
    assert 9 <= stream.getvalue().count("\r") <= 12


def test_a_real_run_moves_one_line_on_a_terminal_of_80_columns(tmp_path):
    """In a pseudo-terminal, with a fake denoiser: one line of progress at a time, and one for each cell at the end."""
    import fcntl
    import struct
    import termios

    master, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    words = ["-m", "model=tiny", "method=ntk,sega", "res=32", "prompts.limit=3", "device=cpu", f"store={tmp_path}/r"]
    worker = subprocess.Popen(
        [sys.executable, "tests/helpers/fake_worker.py", *words],
        cwd=ROOT,
        stdin=end,
        stdout=end,
        stderr=end,
        env=os.environ | {"PYTHONPATH": str(ROOT), "FAKE_SECONDS": "0.3"},
        close_fds=True,
    )
    os.close(end)
    data = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        data += chunk
    os.close(master)
    assert worker.wait(60) == 0, data
    text = data.decode()
    frames = [re.split(r"\r?\n", part)[0] for part in text.split("\r\033[J")[1:]]
    frames = [frame for frame in frames if " made, " not in frame]
    assert all(terminal.columns(frame) < 80 for frame in frames)
    for k in (1, 2, 3):
        assert any(frame.startswith(f"tiny sega 32x32  image {k} of 3, step ") for frame in frames), text
    assert any("image 2 of 3" in frame and " s left" in frame for frame in frames)
    assert "memory" not in text and "loading /" not in text  # nothing to say of a small model on a CPU
    assert len([row for row in text.splitlines() if "3 made, 0 there" in row]) == 2


@pytest.mark.parametrize("seconds, text", [(12.4, "12 s"), (59.6, "1:00 min"), (187, "3:07 min"), (7509, "2:05:09 h")])
def test_times_are_easy_to_read(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize("images, seconds, text", [(5, 2, "2.5/s"), (1, 5, "12/min"), (2, 1014, "7.1/h")])
def test_rates_are_easy_to_read(images, seconds, text):
    assert rate(images, seconds) == text
