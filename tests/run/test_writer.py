"""Images are written while the next one is made: in order, none lost, under their claims."""

import json
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_worker import Fake

from sega.run.writer import Writer
from sega.store import cell_folder

LINE = ("model=tiny", "method=vanilla", "res=32", "prompts.limit=4", "steps=1", "device=cpu")


class Slow(Fake):
    """A device that takes a while, in which the processor is free."""

    seconds = 0.3

    def __init__(self):
        self.made = []

    def generate(self, pipe, method, prompt, seed, size, steps, **options):
        from PIL import Image

        time.sleep(self.seconds)
        self.made.append(prompt)
        return SimpleNamespace(
            image=Image.new("RGB", size, (len(self.made), 0, 0)),
            seconds=self.seconds,
            base_seconds=0.0,
            calls=steps,
            steps=[],
            full_calls=None,
        )


def sweep(tmp_path, *words):
    """Status and seconds of a request of four images, and what made them."""
    from sega.run.cli import main

    slow, begun = Slow(), time.perf_counter()
    status = main([*LINE, f"store={tmp_path / 'runs'}", *words], maker=slow)
    return status, time.perf_counter() - begun, slow


def slow_save(monkeypatch, before=lambda path: None, seconds=0.3):
    save = cell_folder.png.save

    def slower(image, path, row):
        before(path)
        time.sleep(seconds)
        save(image, path, row)

    monkeypatch.setattr(cell_folder.png, "save", slower)


def stored(tmp_path):
    """Files and rows in the order of their rows."""
    (file,) = (tmp_path / "runs").glob("*/*/*/*/images.jsonl")
    return [json.loads(line)["file"] for line in file.open()]


def test_writing_overlaps_the_next_image(monkeypatch, tmp_path):
    sweep(tmp_path / "warm")
    _, alone, _ = sweep(tmp_path / "fast")
    slow_save(monkeypatch)
    status, seconds, slow = sweep(tmp_path)
    assert status == 0 and len(slow.made) == len(stored(tmp_path)) == 4
    assert seconds < alone + 2 * 0.3, "one of four times is on its own, that of the last image"
    assert not list((tmp_path / "runs").rglob(".claims"))


def test_a_claim_lasts_until_its_image_is_written(monkeypatch, tmp_path):
    there = []
    slow_save(monkeypatch, lambda path: there.append(len(list(path.parent.glob(".claims/*.png.*")))), 0.0)
    assert sweep(tmp_path)[0] == 0
    assert len(there) == 4 and min(there) >= 1


def test_an_error_loses_no_other_image(monkeypatch, capsys, tmp_path):
    failing = []

    def full(path):
        failing.append(path)
        time.sleep(0.1)
        if len(failing) == 2:
            raise OSError(28, "No space left on device")

    slow_save(monkeypatch, full, 0.0)
    status, _, slow = sweep(tmp_path)
    assert status == 1 and "No space left on device" in capsys.readouterr().err
    assert len(slow.made) == 3, "the third was made while the second was written"
    assert len(stored(tmp_path)) == 2 and not list((tmp_path / "runs").rglob(".claims/*.png.*"))
    monkeypatch.undo()
    status, _, slow = sweep(tmp_path)
    assert status == 0 and len(slow.made) == 2 and len(stored(tmp_path)) == 4


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
