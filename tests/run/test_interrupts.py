"""Ctrl-C, termination, full disks and kills, with real processes and a fake denoiser."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from sega.store.claims import Claims

ROOT = Path(__file__).resolve().parents[2]
LINE = ("model=tiny", "method=sega", "res=32", "prompts.limit=6", "steps=1", "device=cpu")


def start(tmp_path, *words, seconds="0", **options):
    env = os.environ | {"FAKE_LOG": str(tmp_path / "log"), "FAKE_SECONDS": seconds, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "tests/helpers/fake_worker.py", f"store={tmp_path / 'runs'}", *LINE, *words]
    return subprocess.Popen(
        line, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def begun(tmp_path):
    log = tmp_path / "log"
    return log.read_text().splitlines() if log.exists() else []


def wait_for(tmp_path, images, worker):
    while len(begun(tmp_path)) < images:
        assert worker.poll() is None, worker.communicate()
        time.sleep(0.01)


def rows(tmp_path):
    return [json.loads(line) for path in (tmp_path / "runs").glob("*/*/*/*/images.jsonl") for line in path.open()]


def test_ctrl_c_once_ends_after_the_image_in_flight(tmp_path):
    worker = start(tmp_path, seconds="3")
    wait_for(tmp_path, 2, worker)
    worker.send_signal(signal.SIGINT)
    out, err = worker.communicate(timeout=300)
    assert worker.returncode == 1 and "press Ctrl-C again to stop at once" in err and "Traceback" not in err
    assert err.splitlines()[-1] == "run.py: interrupted; run the same command again to resume"
    assert len(rows(tmp_path)) == len(begun(tmp_path)) == 2
    assert not list((tmp_path / "runs").rglob(".claims"))
    assert start(tmp_path).wait(300) == 0 and len(rows(tmp_path)) == 6 == len(begun(tmp_path))


def test_ctrl_c_twice_and_a_termination_end_at_once(tmp_path):
    for signals in ((signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)):
        worker = start(tmp_path, seconds="600")
        before = len(begun(tmp_path))
        wait_for(tmp_path, before + 1, worker)
        for number in signals:
            worker.send_signal(number)
            time.sleep(0.5)
        _, err = worker.communicate(timeout=100)
        assert worker.returncode == 1 and "Traceback" not in err
        assert rows(tmp_path) == [] and not list((tmp_path / "runs").rglob(".claims/*"))


def test_a_store_that_can_take_no_more_is_named_in_one_line(tmp_path):
    """The limit of a file's size stands for a full disk: writing fails in the middle of an image."""
    limit = 20000

    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    worker = start(tmp_path, "res=128", preexec_fn=small)
    _, err = worker.communicate(timeout=300)
    assert worker.returncode == 1 and "Traceback" not in err
    assert "can't be written" in err and "File too large" in err
    assert not list((tmp_path / "runs").rglob("*.tmp")) and not list((tmp_path / "runs").rglob("*.png"))
    again = start(tmp_path, "res=128")
    assert again.wait(300) == 0, again.communicate()
    assert len(rows(tmp_path)) == 6


def test_what_a_worker_killed_at_its_very_end_left_is_put_right_by_the_next(tmp_path):
    """All images are there, but their rows have no order yet, and the claim on the rows stands."""
    assert start(tmp_path).wait(300) == 0
    (path,) = (tmp_path / "runs").glob("*/*/*/*/images.jsonl")
    settled = path.read_bytes()
    path.write_bytes(b"".join(reversed(settled.splitlines(keepends=True))))
    assert Claims(path.parent).take(path.name).path.exists()
    (claim,) = (path.parent / ".claims").iterdir()
    claim.write_text(json.dumps(json.loads(claim.read_text()) | {"born": "of a process that is gone"}))
    assert path.read_bytes() != settled
    assert start(tmp_path).wait(300) == 0
    assert path.read_bytes() == settled and not claim.parent.exists()
    before = {file: file.stat().st_mtime_ns for file in path.parent.rglob("*")}
    assert start(tmp_path).wait(300) == 0
    assert {file: file.stat().st_mtime_ns for file in path.parent.rglob("*")} == before


def test_kills_at_random_moments_change_nothing(tmp_path):
    """A few rounds of scripts/kill_test.py; the script by itself kills fifty times."""
    line = "line=-m model=tiny method=ntk,sega res=32 prompts.count=8 steps=1 device=cpu"
    words = ["kills=4", "program=tests/helpers/fake_worker.py", line, f"folder={tmp_path / 'kill'}"]
    done = subprocess.run(
        [sys.executable, "scripts/kill_test.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"FAKE_SECONDS": "0.2", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4/4 killed" in done.stdout and "equal the undisturbed one" in done.stdout
