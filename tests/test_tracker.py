"""Dashboards are fed from the rows of the store and need no network."""

import pytest
from PIL import Image

from sega.tracker import Tracker, open_tracker


def test_none_does_nothing(tmp_path):
    tracker = open_tracker({"name": "none"}, "cell", "sega", "hash", {})
    assert type(tracker) is Tracker
    tracker.log({}, tmp_path / "nowhere.png")
    tracker.close()


@pytest.mark.slow
def test_wandb_writes_a_run_offline(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    options = {"name": "wandb", "project": "p", "mode": "offline", "images": 1, "folder": str(tmp_path / "boards")}
    tracker = open_tracker(options, "tiny sega 64x64", "sega", "0123456789ab", {"identity": {"steps": 1}})
    row = {"seconds": 1.0, "calls": 2, "peak_memory_mb": 3.0, "prompt": "a ball", "seed": 0}
    tracker.log(row, tmp_path / "a.png")
    tracker.log(row, tmp_path / "a.png")
    tracker.close()
    (run,) = (tmp_path / "boards" / "wandb").glob("offline-run-*0123456789ab")
    assert len(list(run.rglob("*.png"))) == 1
