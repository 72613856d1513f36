"""The run store: identity, whole files, damaged ones, many workers."""

import json
import threading
import time

import pytest
from PIL import Image

from sega.store.cell_folder import RunFolder
from sega.store.files import atomic, digest, locked
from sega.store.mending import append_row

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
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / "a.txt") as scratch:
        scratch.write_text("half")
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_names_the_file_and_leaves_no_scratch(folder, tmp_path):
    """The limit of a file's size stands for a full disk."""
    import resource
    import signal

    noise = Image.frombytes("RGB", (64, 64), bytes(range(256)) * 48)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    folder.add("p-0-0.png", IMAGE, ROW)
    sound = folder.rows_file.read_bytes()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(sound) + 20, before[1]))
        with pytest.raises(OSError) as error:
            folder.add("p-1-0.png", noise.resize((256, 256)), ROW)
        assert error.value.filename == str(folder.path / "p-1-0.png")
        with pytest.raises(OSError) as error:
            append_row(folder.rows_file, folder.claims, ROW | {"file": "p-2-0.png"})
        assert error.value.filename == str(folder.rows_file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert folder.rows_file.read_bytes() == sound
    assert sorted(path.name for path in folder.path.iterdir()) == [".claims", "images.jsonl", "p-0-0.png", "run.json"]


def test_a_folder_in_the_place_of_a_file_is_set_aside(folder):
    (folder.path / "p-1-0.png").mkdir()
    (folder.path / "p-1-0.png" / "mine.txt").write_text("kept")
    folder.add("p-1-0.png", IMAGE, ROW)
    assert folder.state("p-1-0.png") == "done"
    assert next((folder.path / ".removed").rglob("mine.txt")).read_text() == "kept"
    folder.rows_file.unlink()
    folder.rows_file.mkdir()
    first, second = folder.repair()
    assert "is a folder; moved to" in first and "1 rows were missing or wrong" in second
    assert folder.state("p-1-0.png") == "done"


def test_an_image_carries_its_row_and_its_pixels_do_not_depend_on_it(folder, tmp_path):
    from sega.store import png

    row = folder.add("p-1-0.png", IMAGE, ROW | {"prompt": 'a "ball"\u2028on 雪', "code": {"commit": None}})
    path = folder.path / "p-1-0.png"
    assert png.own_row(path) == row and png.agrees(path, row) and not png.agrees(path, row | {"prompt": "b"})
    with Image.open(path) as written:
        assert written.tobytes() == IMAGE.tobytes() and written.size == IMAGE.size
    content = path.read_bytes()
    copy = tmp_path / folder.hash / path.name
    copy.parent.mkdir()
    for place in range(0, len(content), 7):  # a change anywhere is found
        copy.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert png.own_row(copy) is None, place
    for end in (0, 5, 40, len(content) - 1):
        copy.write_bytes(content[:end])
        assert png.own_row(copy) is None and png.own_row(tmp_path / "nothing.png") is None
    copy.write_bytes(content)
    assert png.own_row(copy) == row


def test_base_records_and_changed_bits_of_tensors_are_found(tmp_path):
    import torch

    from sega.methods.types import Stage
    from sega.store.bases import BaseFolder

    warnings, stage = [], Stage((64, 64), 2, 1.0, plain=True)
    bases = BaseFolder(tmp_path, "tiny", {"weights": "a"}, warnings.append)
    base = {"latent": torch.ones(1, 8, 4, 4), "predictions": {1.0: torch.ones(1, 8, 4, 4)}, "seconds": 1.5, "calls": 2}
    bases.save(stage, "a ball", 0, base)
    path = bases.path(stage, "a ball", 0)
    content, record = path.read_bytes(), (path.parent / "base.json").read_text()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    assert bases.load(stage, "a ball", 0) is None and "its checksum is another" in warnings[0]
    path.write_bytes(content.replace(b"1.5", b"9.5"))
    assert bases.load(stage, "a ball", 0) is None and len(warnings) == 2
    path.write_bytes(content)
    assert torch.equal(bases.load(stage, "a ball", 0)["latent"], base["latent"])
    (path.parent / "base.json").write_text("")
    BaseFolder(tmp_path, "tiny", {"weights": "a"}).path(stage, "a ball", 0)
    assert (path.parent / "base.json").read_text() == record


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

    from sega.methods.types import Stage
    from sega.store.bases import BaseFolder

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
