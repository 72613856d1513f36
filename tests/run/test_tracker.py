"""Dashboards are fed from the records of the store, need no network or account, and never stop a sweep."""

import json

import numpy as np
import pytest
from eval_store import make_run
from PIL import Image
from wandb_file import Offline

from eval.hooks import HOOKS
from eval.records.runs import load_run
from eval.records.scores import write_scores
from sega.errors import RequestError
from sega.methods.types import Step
from sega.run import unsent
from sega.run.tracker import Tracker, Wandb, group_of, open_tracker
from sega.store.step_files import write_steps

CONFIG = {"model": {"name": "tiny"}, "prompts": {"source": "embedded", "count": 3}, "seeds": [0], "method": {"x": 1}}
ID = "0123456789ab"


@pytest.fixture
def cell(tmp_path):
    """A cell of three finished images, the first with recorded steps."""
    folder = make_run(tmp_path / "runs", "sega", (64, 64), prompts=3, amplitude=0.15)
    pair = np.linspace(1, 1.2, 5)
    steps = [
        Step(k, 1 - k / 4, (8, 8), details={"magnitudes": (pair, pair), "strength": 0.1 * k, "flatness": 0.5})
        for k in range(3)
    ]
    write_steps(load_run(folder).images[0].path, steps)
    return folder


def options(tmp_path, **changes):
    return {
        "name": "wandb",
        "project": "p",
        "mode": "offline",
        "group": None,
        "images": 2,
        "thumbnail": 64,
        "timeout": 2,
        "folder": str(tmp_path / "boards"),
    } | changes


def tracked(tmp_path, **changes):
    about = {"identity": {"steps": 1}, "config": CONFIG}
    return open_tracker(options(tmp_path, **changes), "tiny sega 64x64", "sega", ID, about, HOOKS.scaling_map)


def rows_of(folder):
    return [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]


def sessions(tmp_path):
    found = sorted((tmp_path / "boards" / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime_ns)
    return [Offline(path) for path in found]


def test_none_does_nothing(tmp_path):
    tracker = open_tracker({"name": "none"}, "cell", "sega", "hash", {})
    assert type(tracker) is Tracker
    tracker.log({}, tmp_path / "nowhere.png")
    tracker.scores(tmp_path, "plain", {}, [])
    tracker.close()


def test_a_sweep_is_one_group_before_and_after_a_restart():
    assert group_of(CONFIG) == group_of(CONFIG | {"method": {"x": 2}, "res": 256, "tracker": {"mode": "online"}})
    others = ({"model": {"name": "flux"}}, {"seeds": [1]}, {"prompts": {"source": "embedded", "count": 4}})
    assert len({group_of(CONFIG | other) for other in others} | {group_of(CONFIG)}) == 4


@pytest.mark.slow
def test_offline_files_hold_config_timing_images_scores_and_maps(cell, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "boards" / "wandb"))
    rows = rows_of(cell)
    tracker = tracked(tmp_path)
    tracker.log(rows[2], cell / rows[2]["file"])  # its last image is finished in this session
    tracker.close()
    (first,) = sessions(tmp_path)
    assert (first.run.run_id, first.run.project, first.run.run_group) == (ID, "p", group_of(CONFIG))
    assert first.run.job_type == "sega" and first.config["identity"] == {"steps": 1}
    assert first.config["config"]["prompts"]["count"] == 3
    timed = [row for row in first.history if "seconds" in row]
    assert [(row["made"], row["seconds"], row["calls"]) for row in timed] == [(k, 1.5, 20) for k in (1, 2, 3)]
    table = first.table("images")
    assert table["columns"][:4] == ["prompt_id", "seed", "prompt", "image"] and len(table["data"]) == 2
    assert table["data"][0][2] == rows[0]["prompt"]
    images = {name.rpartition("/")[2]: path for name, path in first.artifacts.items() if name.endswith(".png")}
    assert set(images) == {row["file"] for row in rows[:2]}
    assert images[rows[0]["file"]].read_bytes() == (cell / rows[0]["file"]).read_bytes()
    assert images[rows[0]["file"]].is_relative_to(tmp_path)
    assert any(row.get("scaling", {}).get("_type") == "image-file" for row in first.history)

    # A restart, and then the scores: the same run, and every session holds all of it.
    block = {"n": 3, "metrics": {"fid": {"value": 12.5, "low": 10.0, "high": 15.0}, "kid": {"reason": "none"}}}
    block |= {"damaged": [], "cost": {}, "networks": {}, "settings": {}}
    scores = [
        row | {"protocol": "embedded", "values": {"piqe": 5.0 + k, "attributes": {"mean": 0.5}}}
        for k, row in enumerate(rows)
    ]
    write_scores(cell, "embedded", block, scores, {})
    record = json.loads((cell / "run.json").read_text())
    (cell / "run.json").write_text(json.dumps(record | {"hash": ID, "config": CONFIG | {"tracker": options(tmp_path)}}))
    from eval.track import send

    send(load_run(cell), "embedded")
    again = sessions(tmp_path)[-1]
    assert again.run.run_id == ID and again.run.run_group == group_of(CONFIG)
    assert [row["made"] for row in again.history if "seconds" in row] == [1, 2, 3]
    assert again.summary["embedded/fid"] == 12.5 and again.summary["embedded/fid_low"] == 10.0
    assert again.summary["embedded/N"] == 3 and "embedded/kid" not in again.summary
    table = again.table("images")
    assert table["columns"][-2:] == ["attributes", "piqe"] and table["data"][1][-2:] == [0.5, 6.0]


@pytest.mark.slow
def test_images_above_the_thumbnail_become_small_jpegs(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "boards" / "wandb"))
    folder = make_run(tmp_path / "runs", "sega", (384, 192), prompts=2, noise=20)
    tracker = tracked(tmp_path, thumbnail=96)
    tracker.log(rows_of(folder)[1], folder / rows_of(folder)[1]["file"])
    tracker.close()
    (session,) = sessions(tmp_path)
    table = session.table("images")
    assert [row[table["columns"].index("width")] for row in table["data"]] == [384, 384]
    assert [row[table["columns"].index("height")] for row in table["data"]] == [192, 192]
    small = [path for name, path in session.artifacts.items() if name.endswith(".jpg")]
    assert len(small) == 2 and not any(name.endswith(".png") for name in session.artifacts)
    assert sum(path.stat().st_size for path in small) < sum(p.stat().st_size for p in folder.glob("*.png")) / 20
    with Image.open(small[0]) as shown:
        assert shown.size == (96, 48)


def session_of(folder, day, identity):
    path = folder / "wandb" / f"offline-run-{day}_120000-{identity}"
    path.mkdir(parents=True)
    return path


def test_the_line_that_sends_names_the_last_session_of_each_run(tmp_path):
    folder = tmp_path / "my boards"
    for day in ("20260101", "20260102"):
        last = session_of(folder, day, "aaa")
    sent = session_of(folder, "20260103", "bbb")
    (sent / "run-bbb.wandb.synced").touch()
    (line,) = unsent.lines([(str(folder), name) for name in ("aaa", "bbb", "never", "aaa")])
    assert line == f"W&B: 1 run waits offline in {last.parent}; to send: wandb sync '{last}'"
    assert unsent.lines([(str(folder), "bbb")]) == []
    many = [session_of(folder, "20260104", f"c{k}").name.split("-")[-1] for k in range(9)]
    (line,) = unsent.lines([(str(folder), name) for name in many])
    assert f"9 runs wait offline in {folder / 'wandb'}; to send: " in line
    assert line.endswith(f"wandb sync '{folder}/wandb'/offline-run-*")


@pytest.mark.slow
def test_without_the_service_a_run_is_kept_offline(cell, tmp_path, monkeypatch, capsys):
    import wandb

    wandb.teardown()  # it reads the environment once
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    tracker = tracked(tmp_path, mode="online")
    row = rows_of(cell)[0]
    tracker.log(row, cell / row["file"])
    tracker.close()
    assert "not tracked in mode online" in capsys.readouterr().err
    wandb.teardown()
    assert [s.run.run_id for s in sessions(tmp_path)] == [ID]


@pytest.mark.parametrize("error", [BrokenPipeError("gone"), "Error", "MailboxClosedError"])
def test_trouble_in_the_middle_ends_the_tracking_alone(cell, tmp_path, capsys, error):
    from sega.run import tracker as module

    if isinstance(error, str):
        error = next(kind for kind in module.trouble() if kind.__name__ == error)("away")

    class Broken:
        def log(self, *_):
            raise error

    tracker = Wandb.__new__(Wandb)
    tracker.options, tracker.folder, tracker.scored = options(tmp_path), None, {}
    tracker.run, tracker.mode = Broken(), "online"
    for row in rows_of(cell):
        tracker.log(row, cell / row["file"])
    tracker.close()
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "warning: W&B: tracking ends here" in told


@pytest.mark.parametrize("change", [{"images": -1}, {"images": "all"}, {"timeout": 0}, {"thumbnail": 3}])
def test_wrong_options(tmp_path, change):
    (key,) = change
    with pytest.raises(RequestError, match=f"tracker.{key}="):
        tracked(tmp_path, **change)
