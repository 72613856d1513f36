"""The runner: from a line to a store; wrong requests; the second run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from small import run

from sega.run.cli import main
from sega.run.maker import Maker

ROOT = Path(__file__).resolve().parents[2]


def pixels(path):
    with Image.open(path) as image:
        return image.tobytes()


def test_options_that_show_the_configuration_run_nothing(monkeypatch, capsys, line, tmp_path):
    status, out, err = run(monkeypatch, capsys, *line, "--cfg", "job", "steps=3")
    assert status == 0 and out.count("\n") > 20 and err == "" and not (tmp_path / "runs").exists()


def test_output_that_nobody_reads_is_told_in_one_line(tmp_path):
    code = "import sys; from sega.run.cli import main; sys.exit(main(sys.argv[1:]))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "has closed it" in done.stderr


def test_a_lost_or_damaged_record_of_a_complete_cell_is_written_again(monkeypatch, capsys, line, tmp_path):
    words = [*line, "method=vanilla", "res=64", "prompts.limit=1"]
    assert run(monkeypatch, capsys, *words)[0] == 0
    (record,) = (tmp_path / "runs").rglob("run.json")
    identity = json.loads(record.read_text())["identity"]
    monkeypatch.setattr("sega.loading.pipeline.open_pipeline", lambda *_: pytest.fail("loaded for nothing"))
    Maker().free()
    for spoil in (lambda: record.write_text(""), lambda: record.write_text("[1]"), record.unlink):
        spoil()
        status, out, err = run(monkeypatch, capsys, *words)
        assert status == 0 and f"{record} is" in err and "written again" in err and "0 made, 1 there" in out
        assert json.loads(record.read_text())["identity"] == identity
    assert "written again" not in run(monkeypatch, capsys, *words)[2]


def test_a_folder_that_is_no_pipeline_is_refused(monkeypatch, capsys, line, tiny_folder, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    shutil.rmtree(copy / "vae")
    assert "the folder vae is missing" in run(monkeypatch, capsys, *line, f"model.path={copy}")[2]
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"transformer": ["diffusers", "SD3Transformer2DModel"]}))
    assert "holds a SD3Transformer2DModel" in run(monkeypatch, capsys, *line, f"model.path={copy}")[2]
    (copy / "model_index.json").write_text("{")
    assert "is damaged" in run(monkeypatch, capsys, *line, f"model.path={copy}")[2]
    (copy / "model_index.json").unlink()
    assert "no model_index.json" in run(monkeypatch, capsys, *line, f"model.path={copy}")[2]


def test_the_users_line_without_weights_answers_at_once_without_torch(tmp_path):
    code = (
        "import sys; from sega.run.cli import main; status = main(sys.argv[1:]); "
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules))); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "method=sega", "res=4096"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_CACHE": ""},
        timeout=20,
    )
    assert done.returncode == 2 and done.stdout.strip() == "[]"
    assert done.stderr.count("\n") == 1
    for word in ("black-forest-labs/FLUX.1-dev", "not on this machine", "model.path=", "model=tiny"):
        assert word in done.stderr


def test_weights_in_the_hub_cache_are_found(tmp_path, monkeypatch, tiny_folder):
    import shutil

    from sega.errors import RequestError
    from sega.loading.weights import find_weights, fingerprint

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    model = {"name": "flux", "path": None, "id": "owner/name", "revision": None, "download": False}
    model["geometry"] = {"family": "flux"}
    with pytest.raises(RequestError, match="owner/name are not on this machine"):
        find_weights(model)
    repository = tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    shutil.copytree(tiny_folder, repository / "snapshots" / "abc123")
    weights = find_weights(model)
    assert weights.folder.name == "abc123" and fingerprint(weights) == "abc123"
    assert find_weights(model | {"revision": "abc123"}) == weights
    with pytest.raises(RequestError, match="at revision other"):
        find_weights(model | {"revision": "other"})


def test_the_hash_of_weights_is_that_of_their_content(tiny_folder, tmp_path, monkeypatch):
    import shutil

    from sega.loading import weights as loading

    monkeypatch.setattr(loading, "HASHES", tmp_path / "weights.json")
    first = loading.fingerprint(loading.Weights(tiny_folder))
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    assert loading.fingerprint(loading.Weights(copy)) == first
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("1.15", "1.16"))
    assert loading.fingerprint(loading.Weights(copy)) != first
    loading.HASHES.write_text("{damaged")
    assert loading.fingerprint(loading.Weights(tiny_folder)) == first


def test_a_run_is_recorded_and_not_made_twice(monkeypatch, capsys, line, tmp_path):
    status, out, err = run(monkeypatch, capsys, *line, "method=sega", "res=128x64", "record=[profiles]")
    assert status == 0, err
    (folder,) = (tmp_path / "runs" / "tiny" / "sega" / "128x64").iterdir()
    assert "2 made, 0 there" in out and str(folder) in out
    record = json.loads((folder / "run.json").read_text())
    assert record["identity"]["steps"] == 1 and record["identity"]["method"]["kappa"] == 0.08
    assert record["identity"]["size"] == [128, 64] and record["config"]["method"]["name"] == "sega"
    assert {"commit", "dirty", "packages", "device", "created"} <= set(record) and record["packages"]["torch"]
    rows = [json.loads(text) for text in (folder / "images.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and {row["calls"] for row in rows} == {1}
    for row in rows:
        assert row["file"] == f"{row['prompt_id']}-{row['seed']}.png" and (folder / row["file"]).exists()
        assert row["seconds"] > 0 and row["peak_memory_mb"] > 10 and row["finished"]
        assert len((folder / row["file"].replace(".png", ".steps.jsonl")).read_text().splitlines()) == 1
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix != ""}
    monkeypatch.setattr("sega.loading.pipeline.open_pipeline", lambda *_: pytest.fail("loaded for nothing"))
    Maker().free()
    status, out, err = run(monkeypatch, capsys, *line, "method=sega", "res=128x64", "record=[profiles]")
    assert status == 0 and "0 made, 2 there" in out
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix != ""} == before
    assert not (ROOT / "outputs").exists() and not (ROOT / "multirun").exists()


def test_steps_asked_for_later_are_recorded_without_a_new_image(monkeypatch, capsys, line, tmp_path):
    words = [*line, "method=sega", "res=128x64", "prompts.limit=1"]
    assert run(monkeypatch, capsys, *words)[0] == 0
    (image,) = (tmp_path / "runs").rglob("*.png")
    before = pixels(image)
    assert "1 made" in run(monkeypatch, capsys, *words, "record=[spectrum,attention]")[1]
    assert pixels(image) == before and image.with_name(image.stem + ".steps.npz").exists()
    assert "0 made" in run(monkeypatch, capsys, *words, "record=[spectrum]")[1]
    assert "1 made" in run(monkeypatch, capsys, *words, "record=[attention]", "query=[0.1,0.9]")[1]
    assert "0 made" in run(monkeypatch, capsys, *words)[1]


@pytest.mark.parametrize(
    "res, native, token, size",
    [
        ("2x", 192, 8, (384, 384)),
        ("1.5x", 1024, 16, (1536, 1536)),
        ("4X", 1328, 16, (5312, 5312)),
        ("1x", 192, 8, (192, 192)),
        ("1.3x", 192, 8, (248, 248)),
        ("0.5x", 192, 8, (96, 96)),
        (None, 192, 8, (192, 192)),
        ("640", 192, 8, (640, 640)),
        ("640x320", 192, 8, (640, 320)),
    ],
)
def test_a_size_may_be_a_multiple_of_the_training_side(res, native, token, size):
    """1.3 x 24 tokens are 31.2, so 31 of them."""
    from sega.methods.sizes import parse_size

    assert parse_size(res, native, token) == size


def test_multiples_are_of_each_model_and_equal_to_pixels(tmp_path):
    from sega.run.request import read_request

    words = ["-m", "dry_run=true", "method=vanilla", "prompts=examples", f"store={tmp_path}"]
    sizes = [cell.request.size for cell in read_request([*words, "model=tiny,flux", "res=1.5x,2x"]).cells]
    assert sizes == [(288, 288), (384, 384), (1536, 1536), (2048, 2048)]


def test_damaged_images_and_rows_are_named_and_made_again(monkeypatch, capsys, line, tmp_path):
    words = [*line, "method=vanilla", "res=64"]
    assert run(monkeypatch, capsys, *words)[0] == 0
    (folder,) = (tmp_path / "runs" / "tiny" / "vanilla" / "64x64").iterdir()
    first, second = sorted(folder.glob("*.png"))
    good = {path: pixels(path) for path in (first, second)}
    first.write_bytes(first.read_bytes()[:100])
    status, out, err = run(monkeypatch, capsys, *words)
    assert status == 0 and f"{first} is damaged" in err and "1 made, 1 there" in out
    assert pixels(first) == good[first]
    rows = (folder / "images.jsonl").read_text()
    kept = [text for text in rows.splitlines() if second.name not in text]
    (folder / "images.jsonl").write_text("\n".join([*kept, '{"file": "half']))
    before = second.read_bytes()
    status, out, err = run(monkeypatch, capsys, *words)
    assert status == 0 and f"line {len(kept) + 1} is damaged" in err and "1 rows were missing or wrong" in err
    assert "0 made, 2 there" in out and second.read_bytes() == before  # the image carries its row
    assert sorted((folder / "images.jsonl").read_text().splitlines()) == sorted(rows.splitlines())


def test_a_sweep_runs_every_cell_and_leaves_no_litter(monkeypatch, capsys, line, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(monkeypatch, capsys, "-m", *line, "method=vanilla,ntk", "res=64,128x64", "prompts.limit=1")
    assert status == 0, err
    assert len(out.splitlines()) == 4 and all("1 made" in text for text in out.splitlines())
    runs = sorted(str(path.relative_to(tmp_path / "runs").parent) for path in (tmp_path / "runs").glob("*/*/*/*"))
    assert runs == ["tiny/ntk/128x64", "tiny/ntk/64x64", "tiny/vanilla/128x64", "tiny/vanilla/64x64"]
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "weights.json"}


def test_a_key_that_the_swept_methods_have_and_the_default_lacks(monkeypatch, capsys, line, tmp_path):
    words = ["-m", *line, "method=upsample,hiflow", "method.base_steps=1", "res=64", "prompts.limit=1"]
    status, out, err = run(monkeypatch, capsys, *words)
    assert status == 0, err
    assert len(out.splitlines()) == 2 and all("1 made" in text for text in out.splitlines())


def identity_of(line, *words):
    from hydra import compose, initialize_config_dir

    from sega.home import CONF
    from sega.run.cell import build_cell, identity
    from sega.run.request import plain
    from sega.store.files import digest

    with initialize_config_dir(str(CONF), version_base="1.3"):
        cell = build_cell(plain(compose("config", overrides=[*line, *words])))
    return digest(identity(cell, "weights", "1"))


def test_the_identity_holds_what_changes_pixels_and_nothing_else(line):
    base = identity_of(line)
    others = ("device=auto", "seeds=[1,2]", "prompts.seed=4", "store=elsewhere", "tracker=wandb", "record=[profiles]")
    others += (
        "model.memory=gpu",
        "model.budget_gb=3",
        "model.text_cache=elsewhere",
        "tflops=5",
        "model.vae_tiling=true",
    )
    for same in others:
        assert identity_of(line, same) == base, same
    changes = (
        "method=ntk",
        "method.kappa=0.1",
        "method.schedule=stock",
        "steps=2",
        "guidance=2.0",
        "res=256",
        "exact_time=true",
        "model.dtype=bfloat16",
        "model.geometry.text_tokens=12",
        "model.compile=true",
        "model.attention=flash",
        "model.cache=sea",
        "model.cache=sea:0.3",
        "model.quantize=fp8",
        "model.solver=heun",
        "model.progressive=0.05",
        "model.progressive=0.05:2",
        "model.late_attention=window:1:0.5",
        "model.late_attention=pruned",
    )
    hashes = [identity_of(line, change) for change in changes]
    assert identity_of(line, "model.cache=sea:0.250") == identity_of(line, "model.cache=sea")
    assert identity_of(line, "model.late_attention=window") == identity_of(line, "model.late_attention=window:1:0.5")
    assert identity_of(line, "model.solver=euler") == base
    assert base not in hashes and len(set(hashes)) == len(hashes)
    # Tiles change pixels where there is more than one.
    # A speed is what it sets.
    assert identity_of(line, "speed=exact") == base
    own = [word for word in line if word != "steps=1"]  # 20
    fast = identity_of(own, "speed=fast")
    assert fast == identity_of(own, "steps=14", "model.cache=sea:0.3") == identity_of(own, "speed=fast", "steps=0.70x")
    assert identity_of(own, "speed=fast", "model.cache=null", "steps=null") == identity_of(own) != fast
    assert identity_of(own, "speed=faster") == identity_of(own, "steps=10", "model.progressive=0.05:1")
    large, tiled = identity_of(line, "res=4096"), identity_of(line, "res=4096", "model.vae_tiling=true")
    assert large != tiled != identity_of(line, "res=4096", "model.vae_tiling=true", "model.vae_tile=1024")
    qwen = ["model=qwen", "dry_run=true"]
    assert identity_of(qwen) != identity_of(qwen, "model.negative_prompt=blur")
    # A staged method says itself how many steps it takes.
    assert identity_of(line, "method=hiflow") == identity_of(line, "method=hiflow", "steps=7")
    assert identity_of(line, "method=hiflow") != identity_of(line, "method=hiflow", "method.base_steps=7")
    staged = [*line, "method=scalediff"]
    assert identity_of(staged) != identity_of(staged, "model.base_steps=0.5x")


def test_help_lists_groups_keys_and_examples(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for word in ("hiflow", "tiny", "seeds=[0]", "prompts.limit=2", "WxH", "res=2x"):
        assert word in text


def test_every_option_of_every_group_composes():
    from hydra import compose, initialize_config_dir

    from sega.home import CONF
    from sega.run.request import GROUPS

    with initialize_config_dir(str(CONF), version_base="1.3"):
        for group in GROUPS:
            for path in sorted((CONF / group).glob("*.yaml")):
                assert compose("config", overrides=[f"{group}={path.stem}"]).model.name
