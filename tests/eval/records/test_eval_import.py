"""Import of folders: every layout, files that can't be used, a second call, and a cell that pairs with ours."""

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from eval_store import make_scorer
from PIL import Image
from small import run as run_line

from eval.published.values import join
from eval.records.rows import Row, load_rows
from eval.records.runs import Run, find_runs
from eval.scoring.command import main as evaluate
from sega.embedded import world
from sega.run.prompts import named
from sega.store.cell_folder import RunFolder
from sega.store.files import file_sha
from sega.store.png import carried
from sega.store.schema import ImportedRow, RunRecord
from sega.store.upkeep import main as upkeep

ROOT = Path(__file__).parents[3]
main = import_module("eval.import").main  # a keyword: not for an import statement


def image(path, value=0, size=(32, 32), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path, **options)
    return path


def bring(place, *words):
    return main([f"path={place / 'mine'}", "method=mine", f"store={place / 'runs'}", *words])


def sound(place, command="verify"):
    return upkeep([command, f"store={place / 'runs'}"], lambda config, identity: None) == 0


def rows(place, model="images", method="mine"):
    found = {}
    for path in (place / "runs" / model / method).glob("*/*/images.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            found[row["file"]] = row | {"cell": path.parent}
    return found


def captions(place, name="captions.csv", lines=("a.png,one lamp", "b.png,two lamps"), head="file,prompt"):
    (place / name).write_text("\n".join([head, *lines]) + "\n")
    return f"prompts={place / name}"


def test_a_plain_folder_with_a_table(tmp_path, capsys):
    sources = {"one lamp": image(tmp_path / "mine" / "a.png"), "two lamps": image(tmp_path / "mine" / "b.png", 1)}
    given = captions(tmp_path, lines=("a.png, one lamp ,3,2.5", "b.png,two lamps,,"), head="file,prompt,seed,seconds")
    assert bring(tmp_path, given, "model=flux") == 0 and sound(tmp_path) and sound(tmp_path, "gc")
    found = rows(tmp_path, "flux")
    assert set(found) == {f"{named('one lamp').id}-3.png", f"{named('two lamps').id}-0.png"}
    for name, row in found.items():
        cell = row.pop("cell")
        assert (cell / name).read_bytes() == sources[row["prompt"]].read_bytes()
        assert row["sha256"] == row["source_sha256"] and row["source"] == f"mine/{sources[row['prompt']].name}"
        assert ImportedRow.__required_keys__ <= row.keys() <= get_type_hints(ImportedRow).keys()
    assert found[f"{named('one lamp').id}-3.png"]["seconds"] == 2.5
    assert all("seconds" not in row for row in found.values() if row["seed"] == 0)
    record = json.loads((cell / "run.json").read_text())
    assert record.keys() == get_type_hints(RunRecord).keys() and str(tmp_path) not in json.dumps(record)
    assert record["identity"]["imported"] and record["identity"]["model"]["id"] == "black-forest-labs/FLUX.1-dev"
    assert cell.parts[-4:-1] == ("flux", "mine", "32x32")
    (run,) = find_runs(tmp_path / "runs")
    assert run.is_imported and [p.cost["seconds"] for p in run.images] == [2.5, None]
    assert "2 imported, 0 already there" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["txt", "jsonl", "json", "tsv"])
def test_every_form_of_a_file_of_prompts(tmp_path, kind):
    image(tmp_path / "mine" / "a.png"), image(tmp_path / "mine" / "b.png", 1)
    table = [{"file_name": "a.png", "text": "one, lamp"}, {"file_name": "b.png", "text": "two"}]
    text = {
        "txt": "one, lamp\ntwo\n",
        "jsonl": "".join(json.dumps(row) + "\n" for row in table),
        "json": json.dumps(table),
        "tsv": "file_name\ttext\na.png\tone, lamp\nb.png\ttwo\n",
    }[kind]
    (tmp_path / f"p.{kind}").write_text(text)
    assert bring(tmp_path, f"prompts={tmp_path / f'p.{kind}'}") == 0
    assert {row["prompt"] for row in rows(tmp_path).values()} == {"one, lamp", "two"}


def test_geneval(tmp_path):
    for number in range(2):
        for k in range(2):
            image(tmp_path / "mine" / f"{number:05d}" / "samples" / f"{k:05d}.png", 2 * number + k)
        image(tmp_path / "mine" / f"{number:05d}" / "grid.png", 9)
        metadata = {"tag": "counting", "prompt": f"{number} benches"}
        (tmp_path / "mine" / f"{number:05d}" / "metadata.jsonl").write_text(json.dumps(metadata))
    assert bring(tmp_path) == 0 and sound(tmp_path)
    expected = {f"{named(f'{number} benches').id}-{k}.png" for number in range(2) for k in range(2)}
    assert set(rows(tmp_path)) == expected


def test_aesthetic_4k_with_a_cell_for_each_size(tmp_path):
    for side, place in ((32, "size_2048"), (48, "size_4096")):
        lines = []
        for k in range(2):
            image(tmp_path / "mine" / place / f"{k}.jpg", k, (side, side))
            lines.append(json.dumps({"file_name": f"{k}.jpg", "text": f"{side} px of scene {k}"}))
        (tmp_path / "mine" / place / "metadata.jsonl").write_text("\n".join(lines))
    assert bring(tmp_path, "size=48") == 0
    assert {row["prompt"] for row in rows(tmp_path).values()} == {"48 px of scene 0", "48 px of scene 1"}
    assert bring(tmp_path) == 0 and sound(tmp_path)
    cells = {row["cell"].parent.name: row["source"].split("/")[1] for row in rows(tmp_path).values()}
    assert cells == {"32x32": "size_2048", "48x48": "size_4096"}
    for name, row in rows(tmp_path).items():
        source = Image.open(tmp_path / row["source"]).convert("RGB")
        assert np.array_equal(np.asarray(Image.open(row["cell"] / name)), np.asarray(source))
        assert row["sha256"] != row["source_sha256"] == file_sha(tmp_path / row["source"])
        assert carried(row["cell"] / name)["prompt"] == row["prompt"]


def test_the_prompts_of_a_benchmark_name_its_references_in_another_format(tmp_path):
    image(tmp_path / "mine" / "0001.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "0001.jpg", "text": "a harbour"}')
    assert bring(tmp_path, f"prompts={tmp_path / 'metadata.jsonl'}") == 0
    assert [row["prompt"] for row in rows(tmp_path).values()] == ["a harbour"]


def test_ids_are_those_of_a_run_with_the_same_prompts(line, tmp_path, monkeypatch, capsys):
    """Also where the file of prompts has ids of its own, and where the id of our store is given."""
    (tmp_path / "p.jsonl").write_text('{"prompt": "a red house ", "id": "Q 7"}\n{"prompt": "a green house", "seed": 4}')
    words = [word for word in line if not word.startswith("prompts.")]
    assert run_line(monkeypatch, capsys, *words, "res=256", f"prompts.path={tmp_path / 'p.jsonl'}")[0] == 0
    ours = find_runs(tmp_path / "runs")[0]
    for k in range(len(ours.images)):
        image(tmp_path / "mine" / f"{k}.png", k, (256, 256))
    table = [
        {"file": f"{k}.png", "prompt": p.prompt, "seed": p.seed, "id": p.prompt_id} for k, p in enumerate(ours.images)
    ]
    for row in table:
        if "red" in row["prompt"]:
            row["id"] = "Q 7"
    (tmp_path / "p.json").write_text(json.dumps(table))
    assert bring(tmp_path, f"prompts={tmp_path / 'p.json'}", "model=tiny") == 0
    mine = next(run for run in find_runs(tmp_path / "runs") if run.is_imported)
    assert [p.key for p in mine.images] == [p.key for p in ours.images]
    assert (mine.model, mine.size) == (ours.model, ours.size)


def test_one_bad_file_never_stops_the_rest(tmp_path, capsys):
    folder = tmp_path / "mine"
    whole = image(folder / "good.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no image")
    (folder / "link.png").symlink_to(folder / "nowhere.png")
    (folder / "clip.gif").write_bytes(b"GIF89a")
    image(folder / "large.png", 1, (48, 48))
    image(folder / "again.png", 2), image(folder / "silent.png", 3), image(folder / "seed.png", 4)
    (folder / "copy.png").write_bytes(whole)
    names = [(path.name, path.stem) for path in folder.glob("*.png") if path.name != "silent.png"]
    table = [{"file": file, "prompt": f"prompt {stem}", "seed": "x" if stem == "seed" else 0} for file, stem in names]
    next(row for row in table if row["file"] == "good.png")["prompt"] = "prompt again"
    table += [{"file": "gone.png", "prompt": "x"}, {"file": "good.png"}, {"file": "large.png", "prompt": "\ud800"}]
    (tmp_path / "p.json").write_text(json.dumps(table))
    assert bring(tmp_path, f"prompts={tmp_path / 'p.json'}", "size=32") == 0 and sound(tmp_path)
    told = capsys.readouterr().err.splitlines()
    for start, word in {
        "cut.png": "can't be decoded",
        "text.png": "no image format",
        "link.png": "is missing",
        "clip.gif": "not read",
        "large.png": "48x48, which is not the size asked for",
        "good.png": "has the prompt and seed of again.png",
        "silent.png": "has no prompt",
    }.items():
        assert any(line.startswith(f"warning: {start} ") and word in line for line in told), (start, told)
    for word in ("'gone.png', which is not in", "seed x of seed.png", "has no file or no prompt", "large.png twice"):
        assert any(word in line for line in told), (word, told)
    assert {row["prompt"] for row in rows(tmp_path).values()} == {"prompt again", "prompt copy"}


def test_the_same_image_under_two_prompts_is_told(tmp_path, capsys):
    content = image(tmp_path / "mine" / "a.png").read_bytes()
    (tmp_path / "mine" / "b.png").write_bytes(content)
    assert bring(tmp_path, captions(tmp_path)) == 0
    assert "b.png is the same image as a.png" in capsys.readouterr().err and len(rows(tmp_path)) == 2


def test_a_second_import_adds_what_is_new_and_keeps_what_is_there(tmp_path, capsys):
    image(tmp_path / "mine" / "a.png")
    assert bring(tmp_path, captions(tmp_path, lines=("a.png,one lamp",))) == 0
    (row,) = rows(tmp_path).values()
    before = {path: path.stat().st_mtime_ns for path in row["cell"].iterdir()}
    assert bring(tmp_path, captions(tmp_path, lines=("a.png,one lamp",))) == 0
    assert {path: path.stat().st_mtime_ns for path in row["cell"].iterdir()} == before
    image(tmp_path / "mine" / "b.png", 1)
    image(tmp_path / "mine" / "a.png", 7)  # another image for the same prompt and seed
    capsys.readouterr()
    assert bring(tmp_path, captions(tmp_path)) == 0
    out, err = capsys.readouterr()
    assert "1 imported, 0 already there" in out and "a.png is not the image that was imported before" in err
    assert rows(tmp_path)[row["file"]]["sha256"] == row["sha256"] == file_sha(row["cell"] / row["file"])
    assert len(rows(tmp_path)) == 2 and sound(tmp_path)


@pytest.mark.parametrize("what", ["row", "half a row", "image", "half an image", "run.json", "claim"])
def test_what_an_interruption_leaves_is_healed_by_the_same_command(tmp_path, what):
    image(tmp_path / "mine" / "a.png"), image(tmp_path / "mine" / "b.png", 1)
    given = captions(tmp_path)
    assert bring(tmp_path, given) == 0
    before = rows(tmp_path)
    name, cell = next((name, row["cell"]) for name, row in before.items())
    kept = {path.name: path.read_bytes() for path in cell.iterdir()}
    lines = (cell / "images.jsonl").read_text().splitlines(keepends=True)
    if what in ("row", "half a row"):
        first = "" if what == "row" else lines[0][:40]
        (cell / "images.jsonl").write_text("".join([*lines[1:], first]))
    elif what == "claim":
        (cell / ".claims").mkdir()
        (cell / ".claims" / f"{name}.0").write_text(json.dumps({"host": "x", "pid": 1}))
    else:
        path = cell / ("run.json" if what == "run.json" else name)
        path.write_bytes(b"" if what == "half an image" else path.read_bytes()) if "half" in what else path.unlink()
    assert bring(tmp_path, given) == 0 and sound(tmp_path)
    for path, content in kept.items():
        if path.endswith(".png"):
            assert (cell / path).read_bytes() == content
    assert {k: v["sha256"] for k, v in rows(tmp_path).items()} == {k: v["sha256"] for k, v in before.items()}


def test_two_imports_at_once_import_each_image_once(tmp_path):
    for k in range(12):
        image(tmp_path / "mine" / f"{k:02d}.png", k, (200, 200))
    (tmp_path / "p.txt").write_text("".join(f"scene {k}\n" for k in range(12)))
    words = [f"path={tmp_path / 'mine'}", f"prompts={tmp_path / 'p.txt'}", "method=mine", f"store={tmp_path / 'runs'}"]
    line = [sys.executable, "-m", "eval.import", *words]
    both = [
        subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    told = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0] and [err for _, err in told] == ["", ""]
    found = [re.search(r"(\d+) imported, (\d+) already there", out) for out, _ in told]
    assert sum(int(match[1]) for match in found) == sum(int(match[2]) for match in found) == 12
    assert len(rows(tmp_path)) == 12 and sound(tmp_path) and sound(tmp_path, "gc")


def test_an_image_of_another_store_gives_its_record_away(tmp_path, capsys):
    """Its own record would make `verify` take it for damaged."""
    other = RunFolder(tmp_path / "other", "tiny", "sega", (32, 32), {"size": [32, 32]})
    other.open({})
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    about = {"prompt_id": "x", "prompt": "x", "seed": 0}
    other.add("x-0.png", Image.fromarray(pixels), about)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.png").write_bytes((other.path / "x-0.png").read_bytes())
    assert bring(tmp_path, captions(tmp_path, lines=("a.png,one lamp",))) == 0 and sound(tmp_path)
    ((name, row),) = rows(tmp_path).items()
    assert np.array_equal(np.asarray(Image.open(row["cell"] / name)), pixels)
    assert "1 image was written again without the record of another cell" in capsys.readouterr().out


def test_wrong_requests_are_one_line(tmp_path, capsys):
    image(tmp_path / "mine" / "a.png")
    given = captions(tmp_path, lines=("a.png,one lamp",))
    for words, message in (
        ([], "have no prompts; give prompts=<file>"),
        ([given, "method=base"], "method=base means something else"),
        ([given, "method=../x"], "must be a name"),
        ([given, "model=a/b"], "must be a name"),
        ([given, "size=48"], "no image of"),
        ([given, "size=big"], "must be N or WxH"),
        ([given, "seed=-1"], "seed=-1 must be a whole number"),
        ([given, "metod=x"], "did you mean 'method'"),
        (["prompts=nowhere.csv"], "no file of prompts at nowhere.csv"),
    ):
        assert bring(tmp_path, *words) == 2
        err = capsys.readouterr().err
        assert message in err.splitlines()[-1], (words, err)
    assert not list((tmp_path / "runs").rglob("*.png"))


def test_imported_images_never_stand_as_ours_beside_published_values():
    about = {"method": {"name": "sega"}, "imported": True}
    for identity, count in ((about, 0), (about | {"imported": False}, 1)):
        run = Run(Path(), "flux", "sega", 4096, 4096, "x", identity, {}, [])
        joined = join([Row(run, "sega", {"metrics": {}}, "sega")])
        assert len({j.method for j in joined if j.ours}) == count


def test_imported_captions_of_the_world_are_scored_and_paired(tmp_path, capsys):
    """With the attributes, beside a run of ours, and named as imported."""
    prompts = world.prompts(3, 6)
    make_scorer(tmp_path / "scorer")
    about = {"model": {"id": "embedded"}, "method": {"name": "mine"}, "steps": 20, "size": [32, 32]}
    ours = RunFolder(tmp_path / "runs", "tiny", "mine", (32, 32), about)
    ours.open({"config": {}})
    lines = []
    for k, prompt in enumerate(prompts):
        clean = world.render(world.scene_for(prompt, 5), 32, 32)
        Image.fromarray(np.clip(clean, 0, 255).astype(np.uint8)).save(tmp_path / "mine" / f"{k}.png") if k else image(
            tmp_path / "mine" / "0.png"
        )
        lines.append(json.dumps({"file": f"{k}.png", "prompt": prompt}))
        noise = np.random.default_rng(k).integers(0, 256, (32, 32, 3), np.uint8)
        item = named(prompt)
        row = {"prompt_id": item.id, "prompt": prompt, "seed": 0, "seconds": 1.0}
        ours.add(f"{item.id}-0.png", Image.fromarray(noise), row)
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    assert bring(tmp_path, f"prompts={tmp_path / 'p.jsonl'}", "model=tiny") == 0
    quick = ["metrics=[clip_score,attribute_accuracy]", "bootstrap.samples=50", "workers=0", "reference.least=6"]
    places = [f"store={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}"]
    assert evaluate([*places, f"clip.path={tmp_path / 'scorer'}", *quick]) == 0
    found = {row.label: row for row in load_rows(Path(tmp_path / "runs"), Path(tmp_path / "cache"))[0]}
    assert {"mine", "mine [imported]"} <= set(found)
    mine, theirs = found["mine [imported]"], found["mine"]
    assert mine.protocol == "embedded" and mine.block["metrics"]["attribute_accuracy"]["n"] == 6
    assert set(mine.values("clip_score")) == set(theirs.values("clip_score")) and len(mine.values("attributes")) == 6
    assert "images from elsewhere, imported" in mine.notes and "seconds" in mine.block["cost"]
    assert mine.block["cost"]["seconds"] is None and theirs.block["cost"]["seconds"] == 1.0
