"""Images are written while the next one is made: in order, none lost, under their claims."""

import itertools
import json
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_worker import Fake

from sega.run.writer import Writer
from sega.store import cell_folder

LINE = ("model=tiny", "method=vanilla", "res=32", "prompts.limit=4", "steps=1", "device=cpu")


PATIENCE = 60
"""Seconds after which what should happen at the same time counts as not happening; a right run never waits so long."""


class Device(Fake):
    """It says when it begins an image, and then waits until `free` says that it may go on."""

    def __init__(self, free=lambda number: None):
        self.free, self.made, self.state = free, [], threading.Condition()

    def generate(self, pipe, method, prompt, seed, size, steps, **options):
        from PIL import Image

        with self.state:
            self.made.append(prompt)
            self.state.notify_all()
        self.free(len(self.made))
        image = Image.new("RGB", size, (len(self.made), 0, 0))
        return SimpleNamespace(image=image, seconds=0.1, base_seconds=0.0, calls=steps, steps=[], full_calls=None)

    def begins(self, number):
        """Wait until an image is begun; returns whether it was in time."""
        with self.state:
            return self.state.wait_for(lambda: len(self.made) >= number, PATIENCE)


def sweep(tmp_path, device=None):
    """Status of a request of four images, and what made them."""
    from sega.run.cli import main

    device = device or Device()
    return main([*LINE, f"store={tmp_path / 'runs'}"], maker=device), device


def before_saving(monkeypatch, act):
    """Call `act` with the number of each image that is about to be written, and its path."""
    save, numbers = cell_folder.png.save, itertools.count(1)

    def acted(image, path, row):
        act(next(numbers), path)
        save(image, path, row)

    monkeypatch.setattr(cell_folder.png, "save", acted)


def stored(tmp_path):
    """Files and rows in the order of their rows."""
    (file,) = (tmp_path / "runs").glob("*/*/*/*/images.jsonl")
    return [json.loads(line)["file"] for line in file.open()]


def test_the_next_image_is_begun_while_one_is_written(monkeypatch, tmp_path):
    device, overlapped = Device(), []
    before_saving(monkeypatch, lambda number, path: overlapped.append(device.begins(min(number + 1, 4))))
    status, _ = sweep(tmp_path, device)
    assert status == 0 and len(device.made) == len(stored(tmp_path)) == 4
    assert overlapped == [True] * 4
    assert not list((tmp_path / "runs").rglob(".claims"))


def test_a_claim_lasts_until_its_image_is_written(monkeypatch, tmp_path):
    there = []
    before_saving(monkeypatch, lambda number, path: there.append(len(list(path.parent.glob(".claims/*.png.*")))))
    assert sweep(tmp_path)[0] == 0
    assert len(there) == 4 and min(there) >= 1


def test_an_error_loses_no_other_image(monkeypatch, capsys, tmp_path):
    """The second image can't be written, while the third is made; the third is not handed over before that."""
    failed = threading.Event()
    device = Device(lambda number: number == 3 and failed.wait(PATIENCE))

    def full(number, path):
        if number == 2:
            assert device.begins(3)
            failed.set()
            raise OSError(28, "No space left on device")

    before_saving(monkeypatch, full)
    status, _ = sweep(tmp_path, device)
    assert status == 1 and "No space left on device" in capsys.readouterr().err
    assert len(device.made) == 3, "the third was made while the second was written"
    assert len(stored(tmp_path)) == 2 and not list((tmp_path / "runs").rglob(".claims/*.png.*"))
    monkeypatch.undo()
    status, device = sweep(tmp_path)
    assert status == 0 and len(device.made) == 2 and len(stored(tmp_path)) == 4


def test_jobs_end_in_their_order_and_let_go_of_what_they_hold():
    writer, order, go = Writer(), [], threading.Event()
    for number in range(3):
        held = ExitStack()
        held.callback(order.append, f"let go of {number}")
        writer.hand(lambda number=number: (go.wait(), order.append(number), number)[-1], held)
    assert len(writer) == 3 and order == []
    go.set()
    assert list(writer.collect()) == [0, 1, 2]
    assert order == [0, "let go of 0", 1, "let go of 1", 2, "let go of 2"]
    assert writer.close() == []


def test_what_is_left_at_an_error_is_still_done():
    writer = Writer()

    def fail():
        raise OSError("full")

    for job in (fail, lambda: 1, fail, lambda: 2):
        writer.hand(job, ExitStack())
    with pytest.raises(OSError, match="full"):
        list(writer.collect())
    assert writer.close() == [1, 2]


def test_the_benchmark_of_the_loop_compares_the_same_images(tmp_path):
    words = ["--pretend", "0.05", "--sizes", "64", "--count", "2", "--turns", "2", "--out", str(tmp_path)]
    script = Path(__file__).resolve().parents[2] / "scripts" / "bench_loop.py"
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "loop-pretended.json").read_text())["rows"]
    assert (row["images"], row["different"], len(row["clock"])) == (2, 0, 2)
    assert min(row["loop, clock"]) > 0.1 and "| 64 | 2 |" in done.stdout
