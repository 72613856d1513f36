"""Claims: one holder at a time, whoever dies, sleeps or has another clock."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from sega.store.cell_folder import RunFolder
from sega.store.claims import Claims, clock_difference
from sega.store.files import file_sha

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import os, signal, sys, time
from PIL import Image
from sega.store.cell_folder import RunFolder

store, images, victim, log = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "victim", sys.argv[4]
folder = RunFolder(store, "tiny", "sega", (64, 64), {"steps": 1}, lease=2.0)
folder.open({})
names = [f"p-{number}-0.png" for number in range(images)]
while names:
    held = []
    for name in names:
        with folder.claim(name) as claim:
            if claim is None:
                held.append(name)
            elif folder.state(name) != "done":
                if victim:
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(0.01)
                with open(log, "a") as file:
                    file.write(name + "\\n")
                number = int(name.split("-")[1])
                row = {"prompt_id": f"p-{number}", "prompt": "a ball", "seed": 0}
                folder.add(name, Image.new("RGB", (8, 8), (number, 1, 2)), row)
    names = held
    time.sleep(0.01)
folder.settle()
"""


def start(store, images, role, log):
    words = [sys.executable, "-c", WORKER, str(store), str(images), role, str(log)]
    return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def foreign(folder, name, lease=1.0, number=0):
    """A claim as a worker on another machine leaves it."""
    path = folder / ".claims" / f"{name}.{number}"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"host": "far", "pid": 1, "machine": "far", "born": "1", "token": "t", "lease": lease}))
    return path


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_workers_share_a_cell_and_every_image_is_made_once(tmp_path, workers):
    log = tmp_path / "log"
    running = [start(tmp_path / "runs", 24, "worker", log) for _ in range(workers)]
    for worker in running:
        assert worker.wait(300) == 0, worker.stderr.read()
    assert Counter(log.read_text().split()) == Counter(f"p-{number}-0.png" for number in range(24))
    folder = RunFolder(tmp_path / "runs", "tiny", "sega", (64, 64), {"steps": 1})
    files = [row["file"] for row in map(json.loads, folder.rows_file.read_text().splitlines())]
    assert files == sorted(f"p-{number}-0.png" for number in range(24))
    assert all(folder.state(file) == "done" for file in files)
    assert sorted(path.name for path in folder.path.iterdir()) == sorted([*files, "images.jsonl", "run.json"])


def test_images_of_workers_killed_with_a_claim_are_made_once_by_the_others(tmp_path):
    log = tmp_path / "log"
    victims = [start(tmp_path / "runs", 12, "victim", log) for _ in range(3)]
    assert [victim.wait(300) for victim in victims] == [-signal.SIGKILL] * 3
    folder = RunFolder(tmp_path / "runs", "tiny", "sega", (64, 64), {"steps": 1})
    assert folder.claims.standing() and all(body["dead"] for body in folder.claims.standing().values())
    running = [start(tmp_path / "runs", 12, "worker", log) for _ in range(2)]
    assert [worker.wait(300) for worker in running] == [0, 0]
    assert Counter(log.read_text().split()) == Counter(f"p-{number}-0.png" for number in range(12))
    assert not (folder.path / ".claims").exists()


def test_a_claim_is_held_until_it_is_released(tmp_path):
    one, other = Claims(tmp_path), Claims(tmp_path)
    claim = one.take("a.png")
    assert claim and claim.holds() and not claim.inherited
    assert other.take("a.png") is None and other.take("b.png")
    body = other.standing()["a.png"]
    assert body["pid"] == os.getpid() and not body["dead"]
    claim.release()
    assert other.take("a.png")


def test_a_worker_of_another_machine_is_dead_after_its_lease_of_silence_whatever_its_clock(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("sega.store.claims.time.monotonic", lambda: now)
    for moment in (0, 4e9):  # its file system's clock is decades behind, or ahead
        path = foreign(tmp_path, "a.png", lease=3.0)
        os.utime(path, (moment, moment))
        claims = Claims(tmp_path)
        assert claims.take("a.png") is None
        now += 2
        os.utime(path, (moment + 1, moment + 1))  # a sign of life
        assert claims.take("a.png") is None
        now += 2
        assert claims.take("a.png") is None
        now += 2
        claim = claims.take("a.png")
        assert claim.inherited and claim.holds()
        claim.release()
        assert list((tmp_path / ".claims").iterdir()) == []


def test_our_own_claims_give_signs_of_life(tmp_path):
    claim = Claims(tmp_path, lease=0.4).take("a.png")
    first, end = claim.path.stat().st_mtime_ns, time.monotonic() + 60
    while claim.path.stat().st_mtime_ns == first and time.monotonic() < end:
        time.sleep(0.01)
    assert claim.path.stat().st_mtime_ns > first
    claim.release()


def test_a_worker_that_slept_past_its_lease_finds_out(tmp_path):
    sleeper = Claims(tmp_path, lease=0.2).take("a.png")
    (tmp_path / ".claims" / "a.png.1").write_text("{}")  # as the one that took over leaves it
    assert not sleeper.holds()
    sleeper.release()
    assert (tmp_path / ".claims" / "a.png.1").exists()


def test_a_late_look_does_not_take_over_from_the_living(tmp_path, monkeypatch):
    """Between the look at a dead claim and the taking over, another worker may have taken over and finished."""
    import sega.store.claims as module

    path = foreign(tmp_path, "a.png", lease=0.0)
    late, quick = Claims(tmp_path), Claims(tmp_path)
    late.take("a.png"), quick.take("a.png")
    time.sleep(0.01)
    create = module._create

    def meanwhile(target, body):
        monkeypatch.setattr(module, "_create", create)
        quick.take("a.png").release()
        assert not path.exists() and quick.take("a.png").number == 0
        return create(target, body)

    monkeypatch.setattr(module, "_create", meanwhile)
    assert late.take("a.png") is None
    assert [item.name for item in (tmp_path / ".claims").iterdir()] == ["a.png.0"]


@pytest.mark.parametrize("content", [b"", b"5", b"\xff\xfe", b"[" * 100_000, b'{"lease": "long", "machine": 1}', None])
def test_a_damaged_claim_is_one_of_the_dead_after_the_lease(tmp_path, content):
    path = foreign(tmp_path, "a.png")
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    claims = Claims(tmp_path, lease=0.1)
    assert claims.take("a.png") is None and claims.standing()["a.png"]
    time.sleep(0.2)
    claim = claims.take("a.png")
    assert claim.inherited and claim.holds()
    claim.release()
    assert Claims(tmp_path).standing() == {}


def test_a_file_in_the_place_of_the_claims_is_set_aside(tmp_path):
    (tmp_path / ".claims").write_text("mine")
    assert Claims(tmp_path).standing() == {} and Claims(tmp_path).take("a.png").holds()
    assert next((tmp_path / ".removed").rglob(".claims")).read_text() == "mine"


def test_taking_over_clears_what_was_half_written_and_nothing_else(tmp_path):
    folder = RunFolder(tmp_path, "tiny", "sega", (64, 64), {"steps": 1})
    folder.open({})
    (folder.path / ".p-1-0.png.abcd1234.tmp").write_text("half")
    (folder.path / ".p-11-0.png.abcd1234.tmp").write_text("another's")
    foreign(folder.path, "p-1-0.png", lease=0.0)
    assert folder.claims.take("p-1-0.png") is None
    time.sleep(0.01)
    with folder.claim("p-1-0.png") as claim:
        assert claim.inherited
    assert [path.name for path in folder.path.glob(".*.tmp")] == [".p-11-0.png.abcd1234.tmp"]


def test_the_clock_of_the_file_system_is_compared(tmp_path, monkeypatch):
    assert abs(clock_difference(tmp_path)) < 2 and list(tmp_path.iterdir()) == []
    now = time.time
    monkeypatch.setattr("sega.store.claims.time.time", lambda: now() + 500)
    assert clock_difference(tmp_path) == pytest.approx(500, abs=2)
    assert clock_difference(tmp_path / "nowhere") is None


def test_rows_of_prompts_with_strange_line_ends_are_read(tmp_path):
    from PIL import Image

    folder = RunFolder(tmp_path, "tiny", "sega", (64, 64), {"steps": 1})
    folder.open({})
    folder.add("p.png", Image.new("RGB", (8, 8)), {"prompt_id": "p", "prompt": "a\u2028b\x85c", "seed": 0})
    assert folder.repair() == [] and folder.state("p.png") == "done"
    assert folder.rows()["p.png"]["sha256"] == file_sha(folder.path / "p.png")
