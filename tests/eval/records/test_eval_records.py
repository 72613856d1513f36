"""Records of the evaluation: what of them is damaged, told and made again, and that one bad cell stops nothing."""

import json
import shutil

import pytest
from eval_store import make_run

from eval.records.files import are_sound, read_arrays, write_arrays, write_text
from eval.records.runs import load_run
from eval.records.scores import read_blocks, read_scores, write_scores
from eval.report.command import main as report
from eval.scoring.command import main as score
from sega.store.rows import read_rows

ROWS = [{"prompt_id": "p", "prompt": "a ball", "seed": 0, "sha256": "ab", "values": {"piqe": 12.5}}]
BLOCK = {"n": 1, "damaged": [], "metrics": {"piqe": {"value": 12.5}}, "identity": "i", "measures": {}}


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A scored store of two cells."""
    place = tmp_path_factory.mktemp("records")
    for method in ("vanilla", "ntk"):
        make_run(place / "runs", method, (32, 32), prompts=2, noise=9)
    assert command(score, place, *SCORE) == 0
    return place


SCORE = ("eval=plain", "metrics=[piqe]", "bootstrap.samples=10", "workers=0")


def command(main, place, *words):
    return main([f"store={place / 'runs'}", f"cache={place / 'cache'}", *words])


@pytest.fixture
def place(scored, tmp_path):
    shutil.copytree(scored / "runs", tmp_path / "runs")
    return tmp_path


def cell(place, method="ntk"):
    (folder,) = (place / "runs" / "tiny" / method / "32x32").iterdir()
    return folder


def folder_there(path):
    path.unlink(missing_ok=True)
    path.mkdir()


BAD_RUN = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_text('{"hash": "a", "iden'),
    "a list": lambda path: path.write_text("[]"),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "nested": lambda path: path.write_text("[" * 100_000),
    "gone": lambda path: path.unlink(),
    "a folder": folder_there,
}


@pytest.mark.parametrize("spoil", BAD_RUN.values(), ids=BAD_RUN)
def test_a_cell_without_its_record_is_named_and_the_others_go_on(place, capsys, spoil):
    spoil(cell(place) / "run.json")
    assert command(score, place, *SCORE) == 0
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and f"left out: {cell(place) / 'run.json'} is" in err
    assert "0 scored, 1 already scored" in out
    assert command(report, place, "parts=tables", f"out={place / 'out'}", "base=vanilla") == 0
    out, err = capsys.readouterr()
    assert err.count("left out:") == 1 and "vanilla" in out


def test_one_that_is_asked_for_by_its_path_is_refused(place, capsys):
    (cell(place) / "run.json").unlink()
    assert score([f"path={cell(place)}", *SCORE]) == 2
    assert "run.json is missing" in capsys.readouterr().err and not (cell(place) / "pictures").exists()


def test_stray_folders_and_files_stop_nothing(place, capsys):
    for name in ("tiny/ntk/32x32/stray", "tiny/ntk/notxasize/stray", "a/b/1xa/c", "x", ".removed/2026-01-01/flux/ntk"):
        (place / "runs" / name).mkdir(parents=True)
        (place / "runs" / name / "run.json").write_text("{}")
    shutil.rmtree(place / "runs" / "tiny/ntk/32x32/stray")
    (place / "runs" / "tiny" / "file").write_text("x")
    (place / "runs" / "tiny" / "ntk" / "64x64").write_text("x")
    assert command(score, place, *SCORE) == 0
    out, err = capsys.readouterr()
    assert "0 scored, 2 already scored" in out and err == ""


@pytest.mark.parametrize("bad", [b"5", b'{"file": "x.png"}', b"\xff", b"[" * 100_000, "seed", "away", "link"])
def test_a_row_that_is_no_row_is_named_and_the_other_images_are_scored(place, capsys, bad):
    rows, link = cell(place) / "images.jsonl", cell(place) / "0001-0.png"
    first = json.loads(rows.read_text().splitlines()[0])
    if bad == "link":
        link.rename(place / "outside.png")
        link.symlink_to(place / "outside.png")
    else:
        changed = {"seed": {"seed": "one"}, "away": {"file": "../../../../../outside.png"}}
        line = json.dumps(first | changed[bad]).encode() if isinstance(bad, str) else bad
        rows.write_bytes(rows.read_bytes() + line + b"\n")
    assert command(score, place, *SCORE) == 0
    told = capsys.readouterr().err
    assert "0001-0.png (a link)" in told if bad == "link" else "images.jsonl line 3 is damaged" in told
    assert len(load_run(cell(place)).images) == (1 if bad == "link" else 2)


def changed_digit(path):
    text = path.read_text()
    number = next(index for index, character in enumerate(text) if character in "12345678" and text[index - 1] == ".")
    path.write_text(text[:number] + str(int(text[number]) + 1) + text[number + 1 :])


BAD_SCORES = {**BAD_RUN, "a digit": changed_digit}


@pytest.mark.parametrize("name", ["scores.json", "scores.jsonl"])
@pytest.mark.parametrize("spoil", BAD_SCORES.values(), ids=BAD_SCORES)
def test_damaged_scores_are_left_out_and_made_again(place, capsys, name, spoil):
    before = {path.name: json.loads(path.read_text()) for path in cell(place).glob("scores.json")}
    spoil(cell(place) / name)
    assert command(report, place, "parts=tables", f"out={place / 'out'}") == 0
    err = capsys.readouterr().err
    assert str(cell(place)) in err or "not scored yet: tiny ntk" in err
    assert command(score, place, *SCORE) == 0
    assert "1 scored, 1 already scored" in capsys.readouterr().out
    after = json.loads((cell(place) / "scores.json").read_text())
    assert after["protocols"]["plain"]["metrics"] == before["scores.json"]["protocols"]["plain"]["metrics"]
    assert command(score, place, *SCORE) == 0
    out, err = capsys.readouterr()
    assert "0 scored, 2 already scored" in out and err == ""


@pytest.mark.parametrize("spoil", [BAD_RUN["empty"], BAD_RUN["gone"], folder_there])
def test_damaged_arrays_are_made_again(place, capsys, spoil):
    spoil(cell(place) / "features-plain.npz")
    assert command(score, place, *SCORE) == 0 and "1 scored" in capsys.readouterr().out
    assert are_sound(cell(place) / "features-plain.npz")


def test_scores_outlive_their_images_even_where_a_record_beside_them_is_damaged(place, capsys):
    before = (cell(place) / "scores.json").read_bytes()
    for path in cell(place).glob("*.png"):
        path.unlink()
    (cell(place) / "scores.jsonl").write_text("")
    assert command(score, place, *SCORE) == 0
    assert "their scores are kept" in capsys.readouterr().out and (cell(place) / "scores.json").read_bytes() == before


def test_it_is_said_where_scores_are(place, capsys):
    (cell(place) / "scores.json").unlink()
    assert command(score, place, *SCORE) == 0
    assert "->  scores.json beside the images of each run" in capsys.readouterr().out
    assert command(score, place, *SCORE, f"method={cell(place).parts[-3]}") == 0
    assert f"->  {cell(place) / 'scores.json'}" in capsys.readouterr().out


def test_blocks_of_other_protocols_stay_and_a_full_disk_leaves_no_part(tmp_path):
    import resource
    import signal

    for protocol in ("plain", "dype"):
        write_scores(tmp_path, protocol, BLOCK, [row | {"protocol": protocol} for row in ROWS], {})
    assert set(read_blocks(tmp_path)) == {"plain", "dype"} and read_scores(tmp_path, "plain")["n"] == 1
    assert [row["protocol"] for row in read_rows(tmp_path / "scores.jsonl")[0]] == ["plain", "dype"]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limit, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
        for action in (
            lambda: write_text(tmp_path / "scores.json", "x" * 99),
            lambda: write_arrays(tmp_path / "features-plain.npz", {}),
        ):
            with pytest.raises(OSError) as error:
                action()
            assert error.value.filename.startswith(str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["=5"], "must have the form key=value"),
        (["path=/proc"], "must name a folder that can be written to"),
        (["cache=/proc/x"], "must name a folder"),
        (["store=/tmp/" + "a" * 300], "File name too long"),
        (["metrics=[[a]]"], "unknown metric"),
        (["metrics=" + "[" * 5000], "options can't be read"),
        (["batch=" + "9" * 5000], "options can't be read"),
    ],
)
def test_wrong_words_get_one_line(words, message, capsys):
    assert score(words) == 2
    out, err = capsys.readouterr()
    assert message in err and err.count("\n") == 1 and out == ""


def test_no_changed_bit_of_stored_arrays_stops_a_reader(tmp_path):
    import numpy as np

    path = tmp_path / "features.npz"
    write_arrays(path, {"a": np.arange(40), "b": np.ones(7)})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        read_arrays(path)
        assert are_sound(path) in (True, False)


@pytest.mark.parametrize("seal", [5, None, [], {}, {"block": 1}])
def test_a_damaged_seal_is_a_damaged_block(place, capsys, seal):
    path = cell(place) / "scores.json"
    record = json.loads(path.read_text())
    record["protocols"]["plain"]["seal"] = seal
    path.write_text(json.dumps(record))
    assert read_scores(cell(place), "plain") is None
    assert command(score, place, *SCORE) == 0 and "1 scored" in capsys.readouterr().out


def test_a_hash_in_a_label_is_cut():
    from eval.records.labels import short

    assert short("b0cc0f837a2d9b22") == "b0cc0f83"
    assert (short("thresholds"), short(0.15), short([2, 4]), short("1234567890")) == (
        "thresholds",
        "0.15",
        "[2, 4]",
        "1234567890",
    )
