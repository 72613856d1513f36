"""Scoring a small store of noisy renders with a random scorer, from the command line down to the records."""

import json
import shutil

import numpy as np
import pytest
from eval_store import make_run, make_scorer

from eval.metrics.statistics import mean_interval
from eval.records.files import read_arrays
from eval.records.scores import score_rows
from eval.scoring.command import main
from eval.scoring.references import References
from sega.embedded import world

QUICK = [
    "reference.least=12",
    "bootstrap.samples=50",
    "bootstrap.distance_samples=10",
    "kid.subsets=5",
    "metrics=[fid,kid,patch_fid,patch_kid,cmmd,clip_score,attribute_accuracy,spectrum_distance,high_frequency,repetition,"
    "seam]",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a scorer, and a scored store of one method at two sizes."""
    folder = tmp_path_factory.mktemp("eval")
    make_scorer(folder / "scorer")
    make_run(folder / "runs", "vanilla", (32, 32), noise=60)
    make_run(folder / "runs", "vanilla", (64, 64), noise=60)
    assert run(folder) == 0
    return folder


def run(folder, *words, store="runs"):
    return main(
        [
            f"store={folder / store}",
            f"cache={folder / 'cache'}",
            f"clip.path={folder / 'scorer'}",
            "patch.size=32",
            "repetition.period=32",
            "seam.period=32",
            *QUICK,
            *words,
        ]
    )


def block(folder, size="64x64", method="vanilla", store="runs"):
    path = next((folder / store).glob(f"tiny/{method}/{size}/*/scores.json"))
    return json.loads(path.read_text())["protocols"]["embedded"], path.parent


def test_every_metric_has_a_value_or_a_reason(place):
    large, small = block(place)[0]["metrics"], block(place, "32x32")[0]["metrics"]
    for name, cell in large.items():
        assert np.isfinite(cell["value"]) and cell["low"] <= cell["value"] <= cell["high"], name
        assert cell["n"] == 6 and cell["version"], name
    assert large["fid"]["n_reference"] == 12 and "below the 64 dimensions" in large["fid"]["warning"]
    assert large["kid"]["std"] >= 0 and large["kid"]["subset_size"] == 3
    assert large["patch_kid"]["title"] == "patch-KID (4×32 px)" and large["patch_kid"]["crops"] == 4
    assert set(large["attribute_accuracy"]["parts"]) == set(world.SCORED)
    assert "no larger than a crop" in small["patch_fid"]["reason"] and "value" not in small["patch_fid"]
    assert "two base periods" in small["repetition"]["reason"] and "no line between" in small["seam"]["reason"]
    assert large["high_frequency"]["low"] > 3  # noise


def test_rows_are_what_the_means_are_made_of(place):
    found, folder = block(place)
    rows = score_rows(folder, "embedded")
    assert [row["prompt_id"] for row in rows] == [f"{k:04d}" for k in range(6)]
    values = [row["values"]["clip_score"] for row in rows]
    estimate = mean_interval(values, [row["prompt_id"] for row in rows], 50)
    assert found["metrics"]["clip_score"]["value"] == estimate.value
    assert found["metrics"]["clip_score"]["low"] == estimate.low
    mean = np.mean([row["values"]["attributes"]["mean"] for row in rows])
    assert found["metrics"]["attribute_accuracy"]["value"] == pytest.approx(mean)


def test_clip_score_is_the_cosine_of_the_scorer(place):
    import torch

    from sega.embedded.scorer import load_scorer

    _, folder = block(place)
    row = score_rows(folder, "embedded")[2]
    from PIL import Image

    scorer = load_scorer("cpu", place / "scorer")
    image = torch.from_numpy(np.array(Image.open(folder / row["file"]))).permute(2, 0, 1)[None]
    cosine = torch.cosine_similarity(scorer.image_features(image), scorer.text_features([row["prompt"]]))
    assert row["values"]["clip_score"] == pytest.approx(100 * float(cosine), rel=1e-4)


def test_features_have_the_length_of_their_dimension(place):
    _, folder = block(place)
    arrays = read_arrays(folder / "features-embedded.npz")
    assert np.linalg.norm(arrays["features"], axis=-1) == pytest.approx(np.full(6, 8.0), rel=1e-5)
    assert np.linalg.norm(arrays["patches"], axis=-1) == pytest.approx(np.full((6, 4), 8.0), rel=1e-5)


def test_renders_are_scored_beside_the_run(place):
    found, folder = block(place, method="renders", store="cache/renders")
    assert found["n"] == 6 and found["reference"]["identity"] == block(place)[0]["reference"]["identity"]
    noisy = block(place)[0]["metrics"]["spectrum_distance"]
    assert found["metrics"]["spectrum_distance"]["high"] < noisy["low"]


def test_a_second_call_does_nothing(place, capsys):
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    assert run(place) == 0
    assert "0 scored, 2 already scored" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()} == before


def test_batch_workers_and_order_change_nothing(place):
    shutil.copytree(place / "runs", place / "again", ignore=shutil.ignore_patterns("scores*", "features*", "32x32"))
    rows = next((place / "again").glob("*/*/*/*/images.jsonl"))
    rows.write_text("".join(reversed(rows.read_text().splitlines(keepends=True))))
    assert run(place, "batch=1", "workers=1", store="again") == 0
    first, second = block(place)[0]["metrics"], block(place, store="again")[0]["metrics"]
    for name in first:
        for key in ("value", "low", "high"):
            # only float32 of the network itself may differ with the batch
            absolute = 2e-4 if name == "cmmd" else 1e-6  # a difference of three sums near 1000
            assert second[name][key] == pytest.approx(first[name][key], rel=2e-4, abs=absolute), (name, key)


def test_only_new_images_and_metrics_are_measured(place, monkeypatch):
    shutil.copytree(place / "runs" / "tiny" / "vanilla" / "64x64", place / "more" / "tiny" / "vanilla" / "64x64")
    rows = next((place / "more").glob("*/*/*/*/images.jsonl"))
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[:4]))
    assert run(place, store="more") == 0
    assert block(place, store="more")[0]["n"] == 4
    rows.write_text("".join(lines))
    read = []
    from eval.records import images

    original = images.read
    monkeypatch.setattr(images, "read", lambda path, *rest: read.append(path.name) or original(path, *rest))
    assert run(place, store="more") == 0
    assert sorted(name for name in read if name.endswith("-0.png") and len(name) == 10) == ["0004-0.png", "0005-0.png"]
    both = block(place)[0]["metrics"], block(place, store="more")[0]["metrics"]
    assert both[0]["fid"]["value"] == pytest.approx(both[1]["fid"]["value"], rel=1e-4)


def test_new_intervals_are_made_of_stored_values(place, monkeypatch):
    """A store whose intervals are of another version is aggregated again, and no image is read and no network run."""
    before, folder = block(place)
    stamp = (folder / "scores.json").stat().st_mtime_ns
    monkeypatch.setattr("eval.scoring.job.INTERVALS", 0)
    monkeypatch.setattr("eval.records.images.read", lambda *_: pytest.fail("an image is read"))
    monkeypatch.setattr("eval.metrics.learned.networks.load", None)
    assert run(place) == 0
    after = block(place)[0]
    assert (folder / "scores.json").stat().st_mtime_ns > stamp and after["identity"] != before["identity"]
    assert after["metrics"] == before["metrics"]


def test_a_run_has_one_short_line_and_its_scores_are_in_the_records(place, capsys):
    """No wall of scores: what they are stands in the report. Notes come once a command."""
    make_run(place / "short", "ntk", (64, 64), prompts=2)
    make_run(place / "short", "sega", (64, 64), prompts=2)
    assert run(place, store="short") == 0
    told, err = capsys.readouterr()
    lines = told.splitlines()
    assert [line.rsplit(" ", 4)[0] for line in lines if "images scored" in line][:1] == ["1 of 2: tiny ntk 64x64"]
    assert sum("images scored" in line for line in lines) == 3 and max(map(len, lines)) <= 100
    assert "FID 1" not in told and len({line for line in lines if line.startswith("  ")}) == len(lines) - 4
    assert "image/s" not in err  # no bar where stderr is no terminal


def test_damaged_images_are_named_and_left_out(place, capsys):
    folder = make_run(place / "broken", "vanilla", (48, 48), noise=5)
    (folder / "0001-0.png").write_bytes((folder / "0001-0.png").read_bytes()[:900])
    (folder / "0002-0.png").unlink()
    shutil.copy(folder / "0003-0.png", folder / "0004-0.png")
    with (folder / "images.jsonl").open("a") as file:
        file.write('{"prompt_id": "00')
    assert run(place, store="broken") == 0
    told = capsys.readouterr().err
    assert "0001-0.png can't be decoded" in told and "0002-0.png is missing" in told
    assert "0004-0.png differs from its record" in told and "images.jsonl line 7 is damaged" in told
    found = block(place, "48x48", store="broken")[0]
    assert found["n"] == 3 and found["metrics"]["clip_score"]["n"] == 3
    assert [item["file"] for item in found["damaged"]] == ["0001-0.png", "0002-0.png", "0004-0.png"]


def test_scores_outlive_their_images(place, capsys):
    ignore = shutil.ignore_patterns("*.png", "32x32")
    shutil.copytree(place / "runs", place / "records", ignore=ignore)
    before = block(place, store="records")[0]
    assert run(place, store="records") == 0
    assert "their scores are kept" in capsys.readouterr().out
    assert block(place, store="records")[0] == before


def test_scores_of_missing_images_stay_when_others_are_scored(place, capsys):
    """As where another machine made and scored the first captions, and its images were not brought along."""
    whole = make_run(place / "whole", "vanilla", (48, 48), noise=5)
    assert run(place, store="whole") == 0
    part = place / "part" / whole.relative_to(place / "whole")
    shutil.copytree(whole, part, ignore=shutil.ignore_patterns("scores.*", "features-*"))
    rows = (part / "images.jsonl").read_text().splitlines(keepends=True)
    (part / "images.jsonl").write_text("".join(rows[:3]))
    assert run(place, store="part") == 0
    for row in rows[:3]:
        (part / json.loads(row)["file"]).unlink()
    (part / "images.jsonl").write_text("".join(rows))
    capsys.readouterr()
    assert run(place, store="part") == 0
    told = capsys.readouterr()
    assert f"3 of {len(rows)} images are missing; their scores are kept" in told.out and told.err == ""
    found, expected = (block(place, "48x48", store=store)[0] for store in ("part", "whole"))
    assert found["n"] == len(rows) and found["metrics"].keys() == expected["metrics"].keys()
    for name, cell in expected["metrics"].items():  # in other batches float32 may round otherwise
        for key, value in cell.items():
            if isinstance(value, float):
                assert found["metrics"][name][key] == pytest.approx(value, rel=1e-5, abs=1e-6), (name, key)
    assert run(place, "metrics=[clip_score,compression]", store="part") == 0  # a measure that they lack
    found = block(place, "48x48", store="part")[0]["metrics"]
    assert found["clip_score"]["n"] == len(rows) and found["compression"]["n"] == len(rows) - 3


def test_missing_weights_leave_an_empty_cell_with_the_way_to_fill_it(place, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(place / "nothing"))
    make_run(place / "plain", "vanilla", (32, 32), prompts=3)
    words = ["eval=plain", f"store={place / 'plain'}", f"cache={place / 'cache'}", "metrics=[fid,clip_score,piqe]"]
    assert main(words) == 0
    path = next((place / "plain").glob("*/*/*/*/scores.json"))
    cells = json.loads(path.read_text())["protocols"]["plain"]["metrics"]
    assert cells["fid"]["reason"].endswith("fetch it: python scripts/fetch.py inception")
    assert cells["clip_score"]["reason"].endswith("fetch it: python scripts/fetch.py clip-vit-l-14")
    assert 0 <= cells["piqe"]["value"] <= 100
    assert "fid has no value" in capsys.readouterr().out


def test_images_from_elsewhere(place, capsys):
    from PIL import Image

    folder = place / "photos"
    folder.mkdir()
    for k, size in enumerate([(40, 40), (40, 40), (56, 40)]):
        image = world.render(world.scene_for(world.prompts(9, 3)[k], 0), *size)
        Image.fromarray(image).save(folder / f"{k}.jpg")
    (folder / "3.jpg").write_bytes(b"no image")
    prompts = place / "captions.csv"
    prompts.write_text("file,prompt\n0.jpg,a lighthouse at dawn\n1.jpg,two cats\n2.jpg,a boat\n")
    words = [
        f"path={folder}",
        f"prompts={prompts}",
        f"cache={place / 'cache'}",
        f"clip.path={place / 'scorer'}",
        "eval=embedded",
        "metrics=[clip_score,attribute_accuracy,fid,piqe]",
    ]
    assert main(words) == 0
    assert "3.jpg can't be decoded" in capsys.readouterr().err
    cells = json.loads((folder / "scores.json").read_text())["protocols"]["embedded"]["metrics"]
    assert cells["clip_score"]["n"] == 3 and cells["piqe"]["n"] == 3
    assert "no prompt is a caption" in cells["attribute_accuracy"]["reason"]
    assert "several sizes" in cells["fid"]["reason"]


def test_a_folder_of_references(place):
    folder = make_run(place / "folder", "vanilla", (64, 64), noise=9)
    words = ["reference.kind=folder", f"reference.path={next((place / 'runs').glob('tiny/vanilla/64x64/*'))}"]
    assert run(place, *words, "patch.count=16", store="folder") == 0
    found = block(place, store="folder")[0]
    stored = read_arrays(place / "cache" / "references" / f"{found['reference']['identity']}.npz")
    assert "features_outer" not in stored and "patches_outer" in stored  # 6 and 96 rows of 64 dimensions
    for name, rows in (("features", 6), ("patches", 96)):
        wide = stored[name].reshape(-1, 64).astype(np.float64)
        moments = References(stored, ()).moments(name)
        assert moments.count == len(wide) == rows
        assert moments.sum == pytest.approx(wide.sum(0)) and moments.outer == pytest.approx(wide.T @ wide)
    cells = found["metrics"]
    assert cells["fid"]["n_reference"] == 6 and cells["spectrum_distance"]["value"] > 0
    assert folder.joinpath("features-embedded.npz").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["metrics=[fdi]"], "unknown metric 'fdi'; did you mean 'fid'"),
        (["kid.subset=3"], "unknown option kid.subset; did you mean 'subsets'"),
        (["batch=0"], "batch=0 must be a whole number of at least 1"),
        (["eval=embeded"], "did you mean 'embedded'"),
        (["store=/nowhere"], "no store at /nowhere"),
        (["path=/nowhere"], "no folder at /nowhere"),
        (["prompts=/nowhere"], "no file of prompts at /nowhere"),
        (["fid"], "must have the form key=value"),
        (["patch=3"], "must be a group of values"),
        (["eval=plain", "patch.count=two"], "patch.count=two must be a whole number"),
        (["bootstrap.level=2.0"], "between 0 and 1"),
    ],
)
def test_wrong_requests_get_one_line(words, message, capsys):
    assert main(words) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


def test_prompts_that_do_not_fit_are_refused(place, capsys):
    prompts = place / "two.txt"
    prompts.write_text("one\ntwo\n")
    folder = place / "one"
    folder.mkdir()
    shutil.copy(next((place / "runs").rglob("0000-0.png")), folder / "a.png")
    assert main([f"path={folder}", f"prompts={prompts}"]) == 2
    assert "2 lines for 1 images" in capsys.readouterr().err
    (place / "odd.jsonl").write_text('{"file": "b.png", "prompt": "x"}\n')
    assert main([f"path={folder}", f"prompts={place / 'odd.jsonl'}"]) == 2
    assert "'b.png', which is not in" in capsys.readouterr().err


def test_geneval_layout(place):
    from eval.records.foreign import load_folder

    source = next((place / "runs").rglob("0000-0.png"))
    for number in range(2):
        samples = place / "geneval" / f"{number:05d}" / "samples"
        samples.mkdir(parents=True)
        (samples.parent / "metadata.jsonl").write_text(json.dumps({"tag": "x", "prompt": f"prompt {number}"}) + "\n")
        for k in range(2):
            shutil.copy(source, samples / f"{k:04d}.png")
    found = load_folder(place / "geneval").images
    assert [(p.prompt_id, p.seed, p.prompt) for p in found][1:3] == [("00000", 1, "prompt 0"), ("00001", 0, "prompt 1")]


@pytest.mark.parametrize(
    ("command", "said", "more"),
    [
        ("eval.scoring", "python -m eval path=", ()),
        ("eval.report", "usage: python -m eval.report", ()),
        ("eval.search", "usage: python -m eval.search", ("numpy",)),
        ("eval.verdict", "usage: python -m eval.verdict", ("numpy",)),
    ],
)
def test_help_needs_no_heavy_library(command, said, more):
    import subprocess
    import sys

    heavy = ("torch", "pandas", "matplotlib", "optuna", "pyiqa", *more)
    code = (
        f"import sys; from {command}.command import main; main(['--help']); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]") and said in done.stdout
