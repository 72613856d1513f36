"""The run store: identity, whole files, damaged ones, many workers."""

import json
import threading
import time

import pytest
from PIL import Image

from sega.store import RunFolder, digest, locked, whole

ROW = {"prompt_id": "p-1", "prompt": "a ball", "seed": 0, "seconds": 1.0}
IMAGE = Image.new("RGB", (16, 16), (10, 20, 30))


@pytest.fixture
def folder(tmp_path):
    run = RunFolder(tmp_path, "tiny", "sega", (256, 128), {"steps": 20})
    run.open({"config": {"res": "256x128"}})
    return run


def test_the_folder_is_named_by_model_method_size_and_identity(folder, tmp_path):
    assert folder.path == tmp_path / "tiny" / "sega" / "256x128" / digest({"steps": 20})
    record = json.loads((folder.path / "run.json").read_text())
    assert record["hash"] == folder.hash and record["identity"] == {"steps": 20} and record["config"]
    one, other = {"a": 1, "b": [1.5, None]}, {"a": 2, "b": [1.5, None]}
    assert digest(one) == digest(dict(reversed(one.items()))) != digest(other)


def test_an_image_is_done_when_file_and_row_agree(folder):
    assert folder.state("p-1-0.png") is None
    row = folder.add("p-1-0.png", IMAGE, ROW)
    assert folder.state("p-1-0.png") == "done" and folder.rows() == {"p-1-0.png": row}
    with Image.open(folder.path / "p-1-0.png") as written:
        assert written.tobytes() == IMAGE.tobytes()
    assert sorted(path.name for path in folder.path.iterdir()) == [".claims", "images.jsonl", "p-1-0.png", "run.json"]


def test_a_truncated_image_is_named(folder):
    folder.add("p-1-0.png", IMAGE, ROW)
    path = folder.path / "p-1-0.png"
    path.write_bytes(path.read_bytes()[:-10])
    assert folder.state("p-1-0.png") == f"{path} is damaged; made again"
    path.unlink()
    assert "missing" in folder.state("p-1-0.png")
    folder.add("p-1-0.png", IMAGE, ROW)
    assert folder.state("p-1-0.png") == "done" and len(folder.rows()) == 1


@pytest.mark.parametrize("bad", ["{not json", '["a list"]', '{"file": "x.png"}', "\xff\xfe"])
def test_a_damaged_row_is_named_and_dropped(folder, bad):
    folder.add("p-1-0.png", IMAGE, ROW)
    good = folder.rows_file.read_text()
    folder.rows_file.write_text(good + bad + "\n")
    (problem,) = folder.repair()
    assert "line 2 is damaged" in problem and folder.rows_file.read_text() == good
    assert folder.repair() == []


def test_a_damaged_row_of_a_failed_image_too(folder):
    folder.add_failed("p-1-0.png", ROW | {"reason": "NaN"})
    good = folder.failed_file.read_text()
    folder.failed_file.write_text(good.replace("NaN", "NaN, and more")[:-9] + "\n" + good)
    (problem,) = folder.repair()
    assert "failed.jsonl: line 1 is damaged" in problem and folder.failed_file.read_text() == good


def test_a_row_cut_short_does_not_spoil_the_next_one(folder):
    folder.add("p-1-0.png", IMAGE, ROW)
    with folder.rows_file.open("a") as file:
        file.write('{"file": "p-2')
    folder.add("p-3-0.png", IMAGE, ROW)
    assert set(folder.rows()) == {"p-1-0.png", "p-3-0.png"}


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "a.txt") as scratch:
        scratch.write_text("half")
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


def test_locks_exclude_each_other(tmp_path):
    with locked(tmp_path / "x") as first, locked(tmp_path / "x", wait=False) as second:
        assert first and not second
    with locked(tmp_path / "x", wait=False) as third:
        assert third


def test_workers_sharing_a_store_make_every_image_once(tmp_path):
    made, names = [], [f"p-{i}-0.png" for i in range(6)]

    def work():
        folder = RunFolder(tmp_path, "tiny", "sega", (256, 128), {"steps": 20})
        folder.open({})
        for wait in (False, True):
            for name in names:
                with folder.claim(name, wait) as mine:
                    if mine and folder.state(name) != "done":
                        time.sleep(0.01)
                        made.append(name)
                        folder.add(name, IMAGE, ROW)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == names
    folder = RunFolder(tmp_path, "tiny", "sega", (256, 128), {"steps": 20})
    assert len(folder.rows_file.read_text().splitlines()) == 6


def test_bases_come_back_as_they_were(tmp_path):
    import torch

    from sega.bases import BaseFolder
    from sega.parts import Stage

    warnings = []
    bases = BaseFolder(tmp_path, "tiny", {"weights": "a"}, warnings.append)
    stage = Stage((128, 128), 2, 1.0, plain=True)
    predictions = {1.0: torch.randn(1, 8, 4, 4), 0.25: torch.randn(1, 8, 4, 4)}
    base = {"latent": torch.randn(1, 8, 4, 4), "predictions": predictions, "seconds": 1.5, "calls": 2}
    assert bases.load(stage, "a ball", 0) is None
    bases.save(stage, "a ball", 0, base)
    again = BaseFolder(tmp_path, "tiny", {"weights": "a"}).load(stage, "a ball", 0)
    assert torch.equal(again["latent"], base["latent"]) and (again["seconds"], again["calls"]) == (1.5, 2)
    assert list(again["predictions"]) == [1.0, 0.25]
    assert all(torch.equal(again["predictions"][sigma], predictions[sigma]) for sigma in predictions)
    assert bases.load(stage, "a ball", 1) is None
    assert bases.load(Stage((128, 128), 3, 1.0, plain=True), "a ball", 0) is None
    assert BaseFolder(tmp_path, "tiny", {"weights": "b"}).load(stage, "a ball", 0) is None
    path = bases.path(stage, "a ball", 0)
    path.write_bytes(path.read_bytes()[:-40])
    assert bases.load(stage, "a ball", 0) is None and "damaged" in warnings[0]
