"""How images go through measures: worker processes, batches, order, memory, progress."""

import sys
import tracemalloc
from functools import partial

import numpy as np
import pytest
from PIL import Image

from eval.protocols import load_protocol
from eval.records import images
from eval.scoring import collect as module
from eval.scoring.collect import Item, collect, resolve
from sega.errors import RequestError

NAMES = ["spectrum", "repetition", "seam"]


def context(*words):
    config = load_protocol("embedded", ["device=cpu", "repetition.period=16", "seam.period=16", *words])
    found = resolve(NAMES, config, None)
    assert not found.reasons
    return found.context()


def image(number, side=48):
    """An image of its own for each number."""
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)


@pytest.fixture
def items(tmp_path):
    """Six files of two sizes, one damaged and one missing."""
    found = []
    for k in range(6):
        path = tmp_path / f"{k}.png"
        Image.fromarray(image(k, 48 if k < 4 else 64)).save(path)
        found.append(Item(partial(images.read, path), (str(k), 0)))
    (tmp_path / "1.png").write_bytes(b"no image")
    (tmp_path / "3.png").unlink()
    return found


def test_worker_processes_give_what_this_process_gives(items, monkeypatch, capsys):
    here, damaged = collect(items, [NAMES] * 6, context("workers=0"))
    assert set(damaged) == {1, 3} and "can't be decoded" in damaged[1] and damaged[3] == "is missing"
    monkeypatch.setattr(module, "WORTH", 0)
    there, again = collect(items, [NAMES] * 6, context("workers=1"), "measured")
    assert again == damaged and capsys.readouterr().err == ""  # a bar would fill a log
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    collect(items, [NAMES] * 6, context("workers=0"), "measured")
    assert "/6" in capsys.readouterr().err
    for a, b in zip(here, there, strict=True):
        assert set(a) == set(b)
        assert all(np.array_equal(a[name], b[name]) for name in a)


def test_each_image_is_decoded_once_for_all_measures(items):
    read = []
    counted = [Item(lambda item=item: read.append(item.key) or item.load(), item.key) for item in items]
    collect(counted, [NAMES] * 6, context())
    assert sorted(read) == [item.key for item in items]


def test_only_what_is_wanted_is_measured_and_nothing_else_decoded(items):
    wanted = [["seam"], [], [], [], ["seam", "spectrum"], []]
    values, damaged = collect(items, wanted, context())
    assert [sorted(v) for v in values] == [sorted(w) for w in wanted] and damaged == {}


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_values_depend_on_neither_batch_nor_order(batch):
    """Bit for bit, where no network is involved."""
    items = [Item(partial(image, k), (str(k), 0)) for k in range(5)]
    whole, _ = collect(items, [NAMES] * 5, context("batch=16"))
    turned, _ = collect(items[::-1], [NAMES] * 5, context(f"batch={batch}"))
    for a, b in zip(whole, turned[::-1], strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in NAMES)


def peak(count):
    """Most memory in bytes that measuring `count` images takes."""
    items = [Item(partial(image, k % 7, 128), (str(k), 0)) for k in range(count)]
    ready = context("batch=4")
    tracemalloc.start()
    collect(items, [NAMES] * count, ready)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_images_are_never_held_together():
    """Ten times the images take more memory by their few numbers only, not by their 48 kB."""
    peak(4)
    few, many = peak(20), peak(200)
    assert (many - few) / 180 < 4000


def test_a_killed_worker_is_one_line(monkeypatch):
    import os

    with pytest.raises(RequestError, match="use fewer than workers=1"):
        list(images.results([partial(os._exit, 1)], 1))
    assert list(images.results([partial(int, "3")], 1)) == [3]


def test_results_keep_their_order_and_a_bounded_number_waits():
    made = []
    tasks = [lambda k=k: made.append(k) or k for k in range(20)]
    for k, found in enumerate(images.results(tasks, 0)):
        assert found == k and len(made) == k + 1


def test_the_benchmark_measures_both_and_their_ratio(tmp_path, capsys):
    import json
    import sys
    from pathlib import Path

    sys.path.append(str(Path(__file__).resolve().parents[3] / "scripts"))
    import bench_eval

    assert bench_eval.main(["count=2", "size=160", "workers=0", "distinct=1", "device=cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    alone, both = found["seconds an image"].values()
    assert found["ratio"] == pytest.approx(both / alone, rel=0.05) and found["images"] == 2
    assert 1 < found["features to their network alone"] < 10
    small = ["count=1", "size=64", "workers=0", "distinct=1", "device=cpu"]
    assert bench_eval.main([*small, "features=inception"]) == 0
    assert json.loads(capsys.readouterr().out)["network"] == "inception"
    for _ in range(2):  # the second one takes the place of the first
        assert bench_eval.main([*small, f"out={tmp_path}"]) == 0
    (row,) = json.loads((tmp_path / "scoring.json").read_text())
    assert row["command"] == "python scripts/bench_eval.py " + " ".join(small)
    assert f"| embedded | 64 | 1 | 0 | {row['seconds an image']['features']} |" in (tmp_path / "scoring.md").read_text()
    capsys.readouterr()
    assert all(bench_eval.main([word]) == 2 for word in ("size=large", "sizes=3", "features=big"))
    assert capsys.readouterr().err.count("\n") == 3
