"""`scripts/bench_gpu.py` without a GPU: its parts in small, its record and its page."""

import json
import os
import time

import numpy as np
import pytest
import torch

from scripts import bench_gpu
from scripts.bench import flux, images, rate
from scripts.bench.common import head
from scripts.bench.page import of_plain, page
from scripts.bench.plan import STOCK, Turn, chosen, methods, plan
from scripts.bench.record import Record
from sega.errors import RequestError

SMALL, LARGE = flux.SMALL.sizes


@pytest.fixture(scope="module")
def bench():
    return flux.Bench("cpu", torch.float32, flux.SMALL)


@pytest.fixture
def blocks(bench):
    """How often the first block ran."""
    ran = []
    hook = bench.transformer.transformer_blocks[0].attn.register_forward_hook(lambda *_: ran.append(1))
    yield ran
    hook.remove()


@pytest.mark.parametrize("name", [None, "sega", "area", "hiflow", "scalediff", "hrdit"])
def test_only_the_wanted_steps_run_blocks(bench, blocks, name):
    row = bench.turn(Turn(name or STOCK, LARGE, (2, 4), warm=1, method=name))
    assert len(blocks) == 2 and list(row["steps"]) == [4] and len(row["first"]) == 1
    assert row["idle"] > 0
    assert "forward" not in vars(bench.transformer)  # as it was


def test_a_measuring_pass_is_told_apart(bench, blocks):
    row = bench.turn(Turn("ultraimage", LARGE, (0, 1), method="ultraimage"))
    assert len(blocks) == 3 and row["probe"] > 0 and 0 < row["steps"][0]


def test_a_method_in_a_turn_has_its_positions(bench, monkeypatch):
    from sega.methods.sega import SEGA

    seen = []
    stock = SEGA.positions
    monkeypatch.setattr(SEGA, "positions", lambda *args: seen.append(args[1:3]) or stock(*args))
    bench.turn(Turn("sega", SMALL, (1,), method="sega"))
    assert [grid for grid, _ in seen] == [(SMALL // 16, SMALL // 16)] * 2
    assert seen[0][1] > seen[1][1]  # also in the step that is not wanted


def test_the_cache_leaves_out_what_it_may(bench):
    row = bench.turn(Turn("sega, speed=fast", LARGE, tuple(range(6)), method="sega", cached=True))
    assert list(row["blocks"].values()) == [3, 0, 0, 3, 0, 0]
    assert not bench.transformer.is_cache_enabled


def test_a_backend_that_is_not_there_is_left_out(bench, tmp_path):
    def part(part):
        part.measure("no", 0, bench.turn, Turn("no", SMALL, attention="flash"))
        part.measure("yes", 0, bench.turn, Turn("yes", SMALL, attention="_native_flash"))

    record = Record(tmp_path / "r.json", {}, 60)
    record.run("flux", 60, part)
    found = json.loads((tmp_path / "r.json").read_text())["parts"]["flux"]
    assert [row["name"] for row in found["rows"]] == ["yes"] and not found["failed"]
    assert "flash-attn" in found["left_out"]["no"]


def test_memory_is_estimated_for_the_model_at_hand(bench):
    row = bench.turn(Turn(STOCK, SMALL, (1,)))
    assert row["estimate_mb"] > 4 * bench.parameters / 2**20
    assert row["flops"] == bench.flops(SMALL) < bench.flops(LARGE) / 4


def test_the_memory_of_every_method_of_the_plan(tmp_path):
    record = Record(tmp_path / "r.json", {}, 120)
    record.run("memory", 120, lambda part: flux.memory(part, "cpu", torch.float32, True))
    part = record.values["parts"]["memory"]
    assert not part["failed"] and not part["left_out"] and len(part["rows"]) == len(methods(LARGE)) == 10
    assert part["weights_mb"] < part["rows"][0]["estimate_mb"] < part["rows"][0]["peak_mb"]


def test_the_plan_begins_with_the_goal_and_ends_with_what_stays():
    turns = plan(2048, 4096)
    assert [turn.case for turn in turns[:5]] == [STOCK, "sega", STOCK, "sega", STOCK]
    assert {turn.size for turn in turns[:5]} == {4096}
    assert [turn.compiled for turn in turns] == [False] * (len(turns) - 2) + [True] * 2
    assert all(list(turn.steps) == sorted(turn.steps) for turn in turns)
    assert sum(len(turn.steps) for turn in turns if turn.size == 4096) < 20  # 7 s each


def test_turns_are_chosen_by_name():
    turns = plan(2048, 4096)
    found = chosen(turns, "scalediff:4096,plain:2048,compiled blocks:2048,plain:2048")
    assert [(turn.case, turn.size) for turn in found[:2]] == [("scalediff", 4096), (STOCK, 2048)]
    assert found[1] == found[3] and len(found[1].steps) == 1 and found[2].compiled
    with pytest.raises(RequestError, match="unknown turn 'area:2047'; did you mean 'area:2048'"):
        chosen(turns, "area:2047")


def test_chosen_turns_alone_are_run(tmp_path):
    path = tmp_path / "r.json"
    words = [
        "device=cpu",
        "model=small",
        "parts=flux",
        f"turns=resdit:{SMALL},plain:{SMALL}",
        "commit=abc",
        f"out={path}",
    ]
    assert bench_gpu.main(["run", *words]) == 0
    record = json.loads(path.read_text())
    assert [row["case"] for row in record["parts"]["flux"]["rows"]] == ["resdit", STOCK]
    assert (record["commit"], record["dirty"]) == ("abc", False) and f"turns=resdit:{SMALL}" in record["command"]


def test_without_a_commit_it_is_that_of_the_files():
    found = head("x.py", [], "cpu", "float32")
    assert found["commit"] is None or len(found["commit"]) == 40


def test_what_fails_stops_nothing(tmp_path, capsys):
    path = tmp_path / "r.json"

    def broken(part):
        part.measure("one", 0, lambda: 1 / 0)
        part.measure("two", 0, lambda: {"value": 2})
        part.measure("three", 1000, lambda: {"value": 3})
        part.measure("four", 0, _refuse)
        assert [row["value"] for row in json.loads(path.read_text())["parts"]["a"]["rows"]] == [2]  # already
        raise KeyError("five")

    def _refuse():
        raise RequestError("not here")

    record = Record(path, {"device": "cpu"}, 60)
    record.run("a", 30, broken)
    record.run("b", 30, lambda part: part.note(made=1))
    parts = json.loads(path.read_text())["parts"]
    assert set(parts["a"]["failed"]) == {"one", "a"} and "ZeroDivisionError" in parts["a"]["failed"]["one"]
    assert str(bench_gpu.ROOT) not in parts["a"]["failed"]["one"]
    assert parts["a"]["left_out"]["three"].startswith("needs about 1000 s, ")
    assert parts["a"]["left_out"]["four"] == "not here"
    assert parts["b"]["made"] == 1
    record.ends = time.monotonic()
    record.run("c", 30, broken)
    assert record.values["parts"]["c"]["left_out"] == {"c": "no time was left"}


def test_images_are_compared_with_those_of_the_cpu(tmp_path, monkeypatch):
    from sega.methods import registry

    monkeypatch.setattr(registry, "METHODS", {name: registry.METHODS[name] for name in ("pi", "ntk", "upsample")})
    monkeypatch.setattr(images, "STEPS", 1)
    path = tmp_path / "expected.npz"
    assert bench_gpu.main(["cpu", f"out={path}", "size=1x", "methods=pi,ntk"]) == 0
    expected = dict(np.load(path))
    expected["ntk"][0, 0] ^= 4
    np.savez(path, **expected)
    record = Record(tmp_path / "r.json", {}, 60)
    record.run("images", 60, lambda part: images.compare(part, "cpu", path))
    part = record.values["parts"]["images"]
    assert [row["name"] for row in part["rows"]] == ["pi", "ntk"] and part["left_out"] == {}
    assert part["rows"][0]["max"] == 0 and part["rows"][1]["max"] == 4
    assert part["rows"][1]["differ"] == pytest.approx(3 / expected["ntk"].size)
    assert bench_gpu.main(["cpu", "methods=pie"]) == 2


def test_a_rate_is_that_of_the_images_in_between(tmp_path, monkeypatch):
    class Running:
        def poll(self):
            return None

    now = time.time()
    workers = [rate.Worker(tmp_path / str(n), Running()) for n in range(2)]
    for worker, moments in zip(workers, ([-3.0, 1.0, 1.5, 2.0, 2.5], [0.5, 2.5]), strict=True):
        folder = worker.store / "tiny" / "sega" / "384x384" / "hash"
        folder.mkdir(parents=True)
        for moment in moments:
            image = folder / f"{moment}.png"
            image.touch()
            os.utime(image, (now + moment, now + moment))
    monkeypatch.setattr(rate.time, "time", lambda: now)
    monkeypatch.setattr(rate.time, "sleep", lambda seconds: None)
    found = rate.rate(workers, 3)
    assert found == {"processes": 2, "seconds": 3, "images": 6, "images_a_second": pytest.approx(2.0 + 0.5)}


def turned(case, seconds, size=4096, **more):
    row = {"case": case, "size": size, "flops": 4e15, "steps": {"2": seconds}, "first": [], "idle": 0.004}
    return row | {"peak_mb": 30000.0, "estimate_mb": 29000.0} | more


def test_the_page_of_a_record():
    cached, blocks = {"0": 9.0, "1": 0.5, "2": 0.4, "3": 8.0}, {"0": 57, "1": 0, "2": 0, "3": 57}
    rows = [
        turned(STOCK, 8.0, first=[9.0]),
        turned("sega", 8.1),
        turned(STOCK, 8.2),
        turned("sega", 9.225),
        turned(STOCK, 8.2),
        turned("ultraimage", 8.2, probe=6.0),
        turned("sega, speed=fast", 1, steps=cached, blocks=blocks),
        turned(STOCK, 1.0, size=2048),
    ]  # fmt: skip
    parts = {
        "flux": {"parameters": 12e9, "text_tokens": 512, "product_rate": 800e12, "rows": rows},
        "images": {"size": "2x", "steps": 4, "rows": [{"name": "pi", "max": 1, "mean": 0.0004, "differ": 0.01}]},
        "waits": {"rows": [{"name": "pi", "waits": 1.0, "lines": {"sega/models/calls.py:9": 1.0}}]},
        "rate": {
            "line": "-m x",
            "start_seconds": 12.3,
            "rows": [{"processes": 12, "seconds": 5, "images": 99, "images_a_second": 20.25}],
        },
    }
    memory = [turned(STOCK, 1, peak_mb=4000.0), turned("ultraimage", 1, peak_mb=4400.0, probe=3.0)]
    parts["memory"] = {"weights_mb": 2000.0, "size": 4096, "rows": memory}
    for part in parts.values():
        part |= {"left_out": {}, "failed": {}}
    parts["flux"]["left_out"]["compiled"] = "needs about 40 s, 3 s were left"
    parts["flux"]["failed"]["hrdit"] = "Traceback\nRuntimeError: no\n"
    record = {"command": "x", "device": "cuda", "dtype": "bfloat16", "commit": None, "dirty": None}
    record |= {"packages": {"torch": "2", "diffusers": "1"}, "parts": parts}
    earlier = json.loads((bench_gpu.FOLDER / "h100-earlier.json").read_text())
    text = page(record, earlier)
    lines = text.splitlines()
    assert "| 4096 | plain | 8.2 | 1 | 61% | 9 | 4.0 | 31.5 | 30.4 | 7.107 |" in lines
    assert "| 4096 | sega | 8.662 | 1.062 (1.000 to 1.125) | 58% |  | 4.0 | 31.5 | 30.4 | 7.589 |" in lines
    assert "ultraimage at 4096 px: the measuring pass before the first step takes 6 s." in lines
    assert "a whole step takes 8 s, one that is left out 0.45 s, 5.6% of it." in text
    assert "| pi | 1 | 0.0004 | 1.00% |" in lines and "| 12 | 20.25 | 99 | 5 |" in lines
    assert "| pi | 1 | `sega/models/calls.py:9` 1 |" in lines
    assert "| plain | 2.10 | 1.00 |  |" in lines and "| ultraimage | 2.52 | 1.20 | 3 |" in lines
    assert (
        "* flux, compiled: needs about 40 s, 3 s were left" in lines
        and "* flux, hrdit failed: `RuntimeError: no`" in lines
    )
    assert "Twelve processes kept 12 of the 16 CPU cores busy" in text and "commit not known" in text
    later = record | {
        "device": "other",
        "parts": {"flux": parts["flux"] | {"rows": [turned(STOCK, 4.1)], "failed": {}}},
    }
    both = page(record, earlier, later).splitlines()
    assert both[: len(lines)] == lines and both[len(lines) + 1] == "## A later run"
    assert (
        "### A step of FLUX's transformer" in both
        and "| 4096 | plain | 4.1 | 1 | 122% |  | 4.0 | 31.5 | 30.4 | 8.2 |" in both
    )
    assert (
        of_plain(rows[1], rows) == pytest.approx(1.0)
        and of_plain(turned("a", 1, size=1), [turned("a", 1, size=1)]) is None
    )


def test_words_that_can_not_be_read(capsys):
    assert bench_gpu.main([]) == 2 and bench_gpu.main(["walk"]) == 2
    assert bench_gpu.main(["run", "devices=cpu"]) == 2
    assert "run takes device" in capsys.readouterr().err
    assert bench_gpu.main(["run", "parts=flux,speed"]) == 2
    assert "unknown part 'speed'" in capsys.readouterr().err
