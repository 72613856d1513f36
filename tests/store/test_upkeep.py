"""`python -m sega.store`: what it finds, that it changes nothing unasked, and what it does when asked."""

import json
import os
import time

import pytest
import torch
from PIL import Image

from sega.errors import RequestError
from sega.loading.text_cache import TextCache
from sega.store.__main__ import main
from sega.store.cell_folder import RunFolder
from sega.store.claims import Claims

ROW = {"prompt_id": "p", "prompt": "a ball", "seed": 0, "finished": "2026-01-01T00:00:00+00:00"}


@pytest.fixture
def cell(tmp_path):
    folder = RunFolder(tmp_path / "runs", "tiny", "sega", (64, 64), {"steps": 1})
    folder.open({"config": None})
    for number in range(3):
        folder.add(f"p-{number}.png", Image.new("RGB", (8, 8), (number, 0, 0)), ROW)
    folder.settle()
    return folder


def state(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # claims of the living are touched while they are held
    return {path: (path.read_bytes(), path.parent.name == ".claims" or path.stat().st_mtime_ns) for path in files}


def said(capsys, *words):
    status = main(list(words))
    out, err = capsys.readouterr()
    return status, out, err


def test_a_sound_store_has_nothing_to_find(cell, tmp_path, capsys):
    store = f"store={tmp_path / 'runs'}"
    before = state(tmp_path)
    assert said(capsys, "verify", store)[:2] == (0, "nothing found\n")
    assert said(capsys, "gc", store)[:2] == (0, "nothing found\n")
    assert state(tmp_path) == before


def test_damage_is_named_first_and_mended_when_asked(cell, tmp_path, capsys):
    store = f"store={tmp_path / 'runs'}"
    image, gone = cell.path / "p-0.png", cell.path / "p-1.png"
    image.write_bytes(image.read_bytes()[:-5])
    gone.unlink()
    with cell.rows_file.open("a") as file:
        file.write('{"file": "p-9')
    cell.failed_file.write_text("{}\n")
    before = state(tmp_path)
    status, out, _ = said(capsys, "verify", store)
    assert status == 1 and state(tmp_path) == before
    for words in (
        f"{image} is damaged",
        f"{gone} is missing although",
        "images.jsonl: line 4 is damaged",
        "failed.jsonl: line 1 is damaged",
        "4 found; nothing was changed",
    ):
        assert words in out
    status, out, _ = said(capsys, "verify", store, "apply=true")
    assert status == 0 and "4 found, 4 dealt with" in out
    assert set(cell.rows()) == {"p-2.png"} and cell.state("p-0.png") is None and cell.state("p-2.png") == "done"
    assert said(capsys, "verify", store)[0] == 0


def test_a_record_of_another_cell_is_refused_and_never_overwritten(cell, tmp_path, capsys):
    run = cell.path / "run.json"
    record = json.loads(run.read_text()) | {"identity": {"steps": 2}}
    run.write_text(json.dumps(record))
    status, out, _ = said(capsys, "verify", f"store={tmp_path / 'runs'}", "apply=true")
    assert status == 1 and "not the cell of its folder" in out and "need a person" in out
    with pytest.raises(RequestError, match="is of another cell than its folder"):
        cell.open({})
    assert json.loads(run.read_text()) == record


def test_a_damaged_record_is_named_and_written_again(cell, tmp_path, capsys):
    run = cell.path / "run.json"
    run.write_text("{half")
    assert "run.json is damaged" in said(capsys, "verify", f"store={tmp_path / 'runs'}")[1]
    (problem,) = cell.open({"config": None})
    assert "damaged; written again" in problem and json.loads(run.read_text())["identity"] == {"steps": 1}
    run.unlink()
    (problem,) = cell.open({"config": None})
    assert "missing although there are images" in problem and run.exists()


def test_other_packages_than_at_the_beginning_are_named(tmp_path):
    folder = RunFolder(tmp_path, "tiny", "sega", (64, 64), {"steps": 1})
    folder.open({"packages": {"torch": "2.6", "numpy": "2.0"}})
    (problem,) = folder.open({"packages": {"torch": "2.7", "numpy": "2.0"}})
    assert "torch 2.6 -> 2.7" in problem and "numpy" not in problem


def test_a_configuration_that_means_another_cell_today_is_named(tmp_path, capsys, monkeypatch):
    from hydra import compose, initialize_config_dir

    from sega.home import CONF
    from sega.run import cell as plan
    from sega.run.request import plain

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = plain(compose("config", overrides=["model=tiny", "prompts.limit=1", "device=cpu"]))
    about = plan.identity(plan.build_cell(config), "weights", "1")
    monkeypatch.setattr("sega.run.cell.NOISE_VERSION", "1")
    RunFolder(tmp_path, "tiny", "sega", (128, 128), about).open({"config": config})
    assert said(capsys, "verify", f"store={tmp_path}")[1] == "nothing found\n"
    monkeypatch.setattr("sega.run.cell.NOISE_VERSION", "2")
    status, out, _ = said(capsys, "verify", f"store={tmp_path}")
    assert status == 1 and "its configuration means" in out


def test_clocks_are_compared(cell, tmp_path, capsys, monkeypatch):
    later = time.time() - 7200
    monkeypatch.setattr("sega.store.upkeep.time.time", lambda: later)  # this machine is two hours behind its disk
    status, out, _ = said(capsys, "verify", f"store={tmp_path / 'runs'}")
    assert status == 1 and "behind that of" in out and "claims do not depend on clocks" in out


def test_gc_removes_litter_only_and_only_when_asked(cell, tmp_path, capsys):
    store = f"store={tmp_path / 'runs'}"
    living = Claims(cell.path).take("p-5.png")
    dead = cell.path / ".claims" / "p-6.png.0"
    dead.write_text(
        living.path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 1').replace('"born": "', '"born": "9')
    )
    for name in (".p-6.png.aaaa1111.tmp", ".p-5.png.aaaa1111.tmp", "p-7.png", "p-5.png"):
        (cell.path / name).write_text("x")
    before = state(tmp_path)
    status, out, _ = said(capsys, "gc", store)
    assert status == 1 and "3 found; nothing was changed" in out and state(tmp_path) == before
    assert said(capsys, "gc", store, "apply=true")[0] == 0
    names = {path.name for path in cell.path.iterdir()}
    assert names == {
        "p-0.png",
        "p-1.png",
        "p-2.png",
        "p-5.png",
        ".p-5.png.aaaa1111.tmp",
        "images.jsonl",
        "run.json",
        ".claims",
    }
    assert living.holds() and not dead.exists()
    living.release()


def test_ls_has_a_line_for_each_cell(cell, tmp_path, capsys):
    cell.add_failed("p-8.png", ROW | {"reason": "the image is black"})
    with cell.claim("p-9.png"):
        status, out, _ = said(capsys, "ls", f"store={tmp_path / 'runs'}")
    head, line = out.splitlines()
    assert status == 0 and head.split()[:6] == ["model", "method", "size", "hash", "images", "failed"]
    assert line.split()[:6] == ["tiny", "sega", "64x64", cell.hash, "3", "1"] and f":{os.getpid()}" in line


def test_an_emptied_record_costs_no_image_and_verify_writes_it_again(cell, tmp_path, capsys):
    store, before = f"store={tmp_path / 'runs'}", cell.rows_file.read_bytes()
    images = {path.name: path.read_bytes() for path in cell.path.glob("*.png")}
    for spoil in (
        lambda: cell.rows_file.write_bytes(b""),
        cell.rows_file.unlink,
        lambda: cell.rows_file.write_bytes(before[:200]),
        lambda: cell.rows_file.write_bytes(before.replace(b"a ball", b"a bell", 1)),
        lambda: cell.rows_file.write_bytes(before.replace(b'"sha256": "', b'"sha256": "0', 1)),
    ):
        spoil()
        assert said(capsys, "verify", store)[0] == 1
        assert said(capsys, "verify", store, "apply=true")[0] == 0
        assert cell.rows_file.read_bytes() == before and said(capsys, "verify", store)[1] == "nothing found\n"
    cell.rows_file.write_bytes(b"")
    status, out, _ = said(capsys, "gc", store, "apply=true")
    assert "it carries its own" in out and cell.rows_file.read_bytes() == before
    assert {path.name: path.read_bytes() for path in cell.path.glob("*.png")} == images


def test_gc_takes_no_more_than_half_of_the_images_of_a_cell(cell, tmp_path, capsys):
    store = f"store={tmp_path / 'runs'}"
    for path in cell.path.glob("*.png"):  # as they were before images carried their rows
        Image.new("RGB", (8, 8), (1, 2, 3)).save(path)
    cell.rows_file.write_text("")
    before = state(tmp_path)
    status, out, _ = said(capsys, "gc", store, "apply=true")
    assert status == 1 and "names 3 of its 3 images; most of a cell is never taken away" in out
    assert state(tmp_path).keys() == before.keys()


def test_gc_moves_what_it_takes_into_a_dated_folder(cell, tmp_path, capsys):
    store = tmp_path / "runs"
    orphan = cell.path / "p-9.png"
    Image.new("RGB", (8, 8), (9, 9, 9)).save(orphan)
    content = orphan.read_bytes()
    assert said(capsys, "gc", f"store={store}", "apply=true")[0] == 0 and not orphan.exists()
    place = store / ".removed" / time.strftime("%Y-%m-%d") / orphan.relative_to(store)
    assert place.read_bytes() == content
    assert said(capsys, "gc", f"store={store}")[1] == said(capsys, "verify", f"store={store}")[1] == "nothing found\n"
    orphan.write_bytes(b"another")
    assert said(capsys, "gc", f"store={store}", "apply=true")[0] == 0
    assert place.read_bytes() == content and len(list(place.parent.iterdir())) == 2


def test_gc_leaves_locks_and_files_of_a_text_cache_in_the_store(cell, tmp_path, capsys):
    from sega.store.files import locked

    cache = tmp_path / "runs" / "text" / "digest"
    with locked(cache / ".locks" / "a.safetensors"):
        (cache / ".a.safetensors.aaaa1111.tmp").write_text("being written")
        (cell.path / ".p-8.png.aaaa1111.tmp").write_text("being written")  # no claim says that its worker is dead
        before = state(tmp_path)
        assert said(capsys, "gc", f"store={tmp_path / 'runs'}", "apply=true")[1] == "nothing found\n"
        assert state(tmp_path) == before
    os.utime(cell.path / ".p-8.png.aaaa1111.tmp", (1e9, 1e9))
    assert "1 found, 1 dealt with" in said(capsys, "gc", f"store={tmp_path / 'runs'}", "apply=true")[1]
    assert (cache / ".a.safetensors.aaaa1111.tmp").exists()


def test_a_text_cache_where_bases_are_is_no_folder_of_bases_and_keeps_its_locks(cell, tmp_path, capsys):
    """A lock that nobody holds at this moment may be opened the next: moved away, it would exclude nobody."""
    cache = TextCache(tmp_path / "runs" / "tiny" / "base" / "text", {"weights": "w"})
    cache.fill(["a ball"], lambda sentence: {"prompt_embeds": torch.zeros(1)})
    assert (cache.folder / ".locks").is_dir()
    before = state(tmp_path)
    for command in ("gc", "verify"):
        assert said(capsys, command, f"store={tmp_path / 'runs'}", "apply=true")[1] == "nothing found\n"
    assert state(tmp_path) == before


def test_rows_and_links_that_leave_the_cell_are_refused(cell, tmp_path, capsys):
    store, outside = f"store={tmp_path / 'runs'}", tmp_path / "mine.png"
    outside.write_bytes((cell.path / "p-0.png").read_bytes())
    content, rows = outside.read_bytes(), cell.rows_file.read_text().splitlines()
    away = [json.loads(rows[0]) | {"file": name} for name in ("../../../../../mine.png", str(outside), "..", "")]
    cell.rows_file.write_text("".join(json.dumps(row) + "\n" for row in [*map(json.loads, rows), *away]))
    (cell.path / "p-1.png").unlink()
    (cell.path / "p-1.png").symlink_to(outside)
    assert set(cell.rows()) == {"p-0.png", "p-1.png", "p-2.png"}
    assert cell.state("p-1.png").endswith("is a link and not an image; made again")
    status, out, _ = said(capsys, "verify", store, "apply=true")
    assert status == 0 and "p-1.png is a link and not an image" in out and "line 7 is damaged" in out
    assert said(capsys, "gc", store, "apply=true")[0] in (0, 1) and outside.read_bytes() == content
    cell.add("p-1.png", Image.new("RGB", (8, 8), (1, 0, 0)), ROW)
    assert not (cell.path / "p-1.png").is_symlink() and outside.read_bytes() == content
    assert cell.state("p-1.png") == "done"


def test_an_image_of_another_cell_is_not_taken_for_one_of_this(cell, tmp_path, capsys):
    other = RunFolder(tmp_path / "runs", "tiny", "sega", (64, 64), {"steps": 2})
    other.open({})
    (other.path / "p-0.png").write_bytes((cell.path / "p-0.png").read_bytes())
    (other.path / "p-7.png").write_bytes((cell.path / "p-0.png").read_bytes())
    assert other.repair() == [] and other.rows() == {} and other.state("p-0.png") is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verfy"], "did you mean 'verify'"),
        (["ls", "stor=x"], "did you mean 'store'"),
        (["gc", "now"], "unknown option"),
        (["gc", "apply=yes"], "must be true or false"),
        (["ls", "store=/nowhere"], "is not a folder"),
    ],
)
def test_wrong_requests(words, message, capsys):
    status, out, err = said(capsys, *words)
    assert status == 2 and message in err and err.count("\n") == 1 and not out
