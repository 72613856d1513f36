"""The runner: from a line to a store; wrong requests; the second run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from small import words as small_words

from sega.cli import main

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = "prompts.limit=2"


@pytest.fixture
def line(tiny_folder, tmp_path, monkeypatch):
    """Words every run of these tests begins with; the hash cache goes elsewhere."""
    monkeypatch.setattr("sega.models.loading.HASHES", tmp_path / "weights.json")
    return small_words(tiny_folder, f"store={tmp_path / 'runs'}", "steps=1", "device=cpu", PROMPTS)


def run(monkeypatch, capsys, *words):
    """Exit status, stdout, stderr of a line."""
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    status = main(list(words))
    out, err = capsys.readouterr()
    return status, out, err


def pixels(path):
    with Image.open(path) as image:
        return image.tobytes()


WRONG = [
    (["method=segga"], "unknown method 'segga'; did you mean 'sega'"),
    (["method="], "unknown method ''"),
    (["model=flx"], "unknown model 'flx'; did you mean 'flux'"),
    (["prompts=embeded"], "unknown prompts 'embeded'; did you mean 'embedded'"),
    (["eval=plane"], "unknown eval 'plane'; did you mean 'plain'"),
    (["tracker=wandd"], "unknown tracker 'wandd'; did you mean 'wandb'"),
    (["experiment=dmo"], "unknown experiment 'dmo'; did you mean 'demo'"),
    (["stps=3"], "unknown key 'stps'; did you mean 'steps'"),
    (["metod=sega"], "unknown key 'metod'; did you mean 'method'"),
    (["method.kapa=1"], "unknown key 'method.kapa'; did you mean 'method.kappa'"),
    (["-m", "method=sega,hiflow", "method.base_steps=4"], "unknown key 'method.base_steps'"),
    (["prompts.limt=1"], "unknown key 'prompts.limt'; did you mean 'prompts.limit'"),
    (["method.kappa=fast"], "kappa=fast must be a number"),
    (["method.source=tokens"], "source=tokens is not allowed"),
    (["res=100"], "not a multiple of 8 px"),
    (["res=0"], "not a multiple of 8 px"),
    (["res=-128"], "res=-128 must be N or WxH"),
    (["res=128x"], "res=128x must be N or WxH"),
    (["res=0x"], "or a multiple of the training size up to 32x, such as res=2x"),
    (["res=0.01x"], "res=0.01x must be N or WxH"),
    (["res=-2x"], "res=-2x must be N or WxH"),
    (["res=2xx"], "res=2xx must be N or WxH"),
    (["res=1e9x"], "res=1e9x must be N or WxH"),
    (["res=32.1x"], "res=32.1x must be N or WxH"),
    (["-m", "res=2x,0x"], "res=0x must be N or WxH"),
    (["res=big"], "res=big must be N or WxH"),
    (["res=true"], "must be N or WxH"),
    (["steps=-1"], "steps=-1 must be a whole number"),
    (["steps=2.5"], "steps=2.5 must be a whole number"),
    (["steps=many"], "steps=many must be a whole number"),
    (["guidance=-1"], "guidance=-1 must be a number of at least 0"),
    (["guidance=high"], "guidance=high must be a number"),
    (["seeds=[]"], "seeds=[] is empty"),
    (["seeds=[a]"], "seeds=a must be a whole number"),
    (["seeds=-3"], "seeds=-3 must be a whole number"),
    (["device=gpu"], "device=gpu is unknown"),
    (["device=cpu", "model.dtype=float16"], "float16 does not work on a CPU"),
    (["model.dtype=fp8"], "model.dtype=fp8 is unknown"),
    (["model.memory=ofload"], "model.memory=ofload is unknown; did you mean 'offload'"),
    (["model.memory=offload"], "with device=cpu use auto"),
    (["model.quantize=2bit"], "model.quantize=2bit is unknown; did you mean"),
    (["model.quantize=4bit"], "needs a CUDA device"),
    (["model.vae_tile=100"], "model.vae_tile=100 must be a whole number from 512"),
    (["model.budget_gb=0"], "model.budget_gb=0 must be a number above 0"),
    (["model.compile=maybe"], "model.compile=maybe must be true or false"),
    (["dry_run=maybe"], "dry_run=maybe must be true or false"),
    (["tflops=0"], "tflops=0 must be a number above 0"),
    (["model.path=/nowhere"], "model.path=/nowhere is not a folder"),
    (["prompts=file"], "needs prompts.path"),
    (["model.negative_prompt=blur"], "tiny takes none, its guidance is embedded"),
    (["prompts.path=/nowhere.txt"], "prompts.path=/nowhere.txt is not a file"),
    (["prompts=examples", "prompts.count=3"], "prompts.count=3 is of prompts=embedded only"),
    (["prompts=file", "prompts.path=/nowhere.txt"], "prompts.path=/nowhere.txt is not a file"),
    (["prompts.limit=0"], "prompts.limit=0 must be at least 1"),
    (["prompts.limit=two"], "prompts.limit=two must be a whole number"),
    (["prompts.text=[1,2]"], "must be a sentence or a list of sentences"),
    (["prompts.count=0"], "there are no prompts"),
    (["record=spectra"], "record=spectra is unknown"),
    (["record=[attention]", "query=[0.5,2]"], "query=[0.5, 2] must be a place x,y"),
    (["exact_time=maybe"], "exact_time=maybe must be true or false"),
    (["tracker=wandb", "tracker.mode=later"], "tracker.mode=later must be offline or online"),
    (["store=README.md/x"], "store="),
    (["res=128,256"], "add -m to run each of them"),
    (["-m", "method=vanilla,segga"], "unknown method 'segga'"),
    (["-m", "res=128,100"], "not a multiple of 8 px"),
    (["prompts.text='open"], "can't read"),
    (["res=["], "can't read"),
    (["sega"], "can't read 'sega'; settings are written key=value"),
    (["--res=512"], "unknown option --res=512"),
    (["+extra=1"], "keys can't be added or removed"),
    (["~method"], "can't read '~method'"),
    (["part=0/4"], "part=0/4 must be i/n with i from 1 to n"),
    (["part=5/4"], "part=5/4 must be i/n"),
    (["part=half"], "part=half must be i/n"),
    (["lease=0"], "lease=0 must be a number of seconds"),
    (["lease=soon"], "lease=soon must be a number of seconds"),
    (["retry_failed=perhaps"], "retry_failed=perhaps must be true or false"),
    (["-m", "hydra/launcher=slrum"], "unknown hydra/launcher 'slrum'; did you mean 'slurm'"),
    (["-m", "hydra/launcher=workers", "hydra.launcher.n_job=2"], "unknown key 'hydra.launcher.n_job'"),
    (["experiment=dype_1"], "this experiment runs several cells: add -m"),
    (["-m", "experiment=dype_1", "res=big"], "res=big must be N or WxH"),
    (["-m", "experiment=dype_1", "method=vanilla,yam"], "unknown method 'yam'; did you mean 'yarn'"),
    (["-m", "part=1/2,3/2"], "part=3/2 must be i/n"),
    (["seeds=1.5"], "seeds=1.5 must be a whole number"),
    (["seeds=[0,-1]"], "seeds=-1 must be a whole number"),
    (["guidance=nan"], "guidance=nan must be a number"),
    (["steps=1001"], "steps=1001 must be a whole number"),
    (["res=128x128x128"], "res=128x128x128 must be N or WxH"),
    (["res=1e3"], "must be N or WxH"),
    (["method.base=ntk"], "unknown key 'method.base'"),
    (["method=dype", "method.base=yam"], "base=yam is not allowed"),
    (["method=hiflow", "method.steps=[0]"], "steps"),
    (["method=upsample", "method.base_steps=0"], "base_steps=0"),
    (["method=scalediff", "method.strength=2"], "strength=2"),
    (["prompts.count=-1"], "prompts.count=-1 must be at least 0"),
    (["prompts=file", "prompts.path=README.md"], "must end in .txt"),
    (["prompts.text=''"], "must be a sentence"),
    (["model=qwen", "model.path=/nowhere"], "model.path=/nowhere is not a folder"),
    (["eval.metrics=[fidd]"], "unknown metric 'fidd'; did you mean 'fid'"),
    (["eval.bootstrap.level=2"], "bootstrap.level=2 must lie between 0 and 1"),
    (["tracker.images=lots"], "tracker"),
    (["store="], "must name a folder"),
    (["store=${nothing}"], "can't be resolved"),
    (["=5"], "can't read '=5'"),
    (["res=" + "9" * 100_000], "can't read res=999"),
    (["part=1/" + "9" * 5000], "must be i/n"),
    (["prompts.text=" + "[" * 100_000], "more than 64 brackets stand open"),
    (["prompts.text='\udcff'"], "half a character"),
    (["prompts.count=1000000000"], "prompts.count=1000000000 must be at most 100000"),
    (["prompts.path=/tmp/" + "a" * 300], "File name too long"),
    (["prompts=null"], "must be a string or a list"),
    (["model.name=../../evil"], "model.name=../../evil must be a name"),
    (["model.name="], "model.name= must be a name"),
    (["model.name=.hidden"], "must be a name"),
    (["model.name=" + "a" * 300], "must be a name"),
    (["model.geometry=5"], "must be a group of values"),
    (["model.geometry.axes=foo"], "geometry.axes=foo must be three even numbers"),
    (["model.geometry.axes=[8,28,a]"], "must be three even numbers"),
    (["model.geometry.theta=warm"], "must be above 1"),
    (["model.geometry.text_tokens=many"], "must be a whole number"),
    (["store=/proc"], "store=/proc must name a folder that can be written to"),
    (["store=/proc/x"], "must name a folder that can be written to"),
    (["store=/tmp/" + "a" * 300], "(File name too long)"),
    (["store=[a]"], "must name a folder"),
    (["model.text_cache=/proc/x"], "model.text_cache=/proc/x must name a folder"),
    (["--config-name", "other"], "--config-name is not taken"),
    (["--config-dir=conf"], "--config-dir is not taken"),
    (["--config-path", "conf"], "--config-path is not taken"),
    (["--cfg", "job", "method=segga"], "unknown method 'segga'; did you mean 'sega'"),
    (["--cfg", "job", "stps=3"], "unknown key 'stps'"),
    (["--cfg", "jib"], "--cfg jib: must be one of job, hydra, all"),
    (["--cfg"], "must be one of job, hydra, all"),
    (["--info", "method=segga"], "unknown method 'segga'"),
    (["-m", "method=sega,ntk", "--cfg", "job"], "--cfg shows one cell"),
    (["--resolve"], "--resolve goes with --cfg job"),
    (["--shell-completion"], "takes install=<shell>"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_wrong_request_gets_one_line_and_status_2(monkeypatch, capsys, line, words, message, tmp_path):
    status, out, err = run(monkeypatch, capsys, *line, *words)
    assert status == 2 and out == ""
    assert err.startswith("run.py: ") and message in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists() and "Traceback" not in err


def test_options_that_show_the_configuration_run_nothing(monkeypatch, capsys, line, tmp_path):
    status, out, err = run(monkeypatch, capsys, *line, "--cfg", "job", "steps=3")
    assert status == 0 and out.count("\n") > 20 and err == "" and not (tmp_path / "runs").exists()


def test_output_that_nobody_reads_is_told_in_one_line(tmp_path):
    code = "import sys; from sega.cli import main; sys.exit(main(sys.argv[1:]))"
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
    monkeypatch.setattr("sega.models.loading.load_pipeline", lambda *_: pytest.fail("loaded for nothing"))
    monkeypatch.setattr("sega.runner._loaded", {})
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
        "import sys; from sega.cli import main; status = main(sys.argv[1:]); "
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules))); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "method=sega", "res=4096"], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_CACHE": ""}, timeout=20,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout.strip() == "[]"
    assert done.stderr.count("\n") == 1
    for word in ("black-forest-labs/FLUX.1-dev", "not on this machine", "model.path=", "model=tiny"):
        assert word in done.stderr


def test_weights_in_the_hub_cache_are_found(tmp_path, monkeypatch, tiny_folder):
    import shutil

    from sega.errors import RequestError
    from sega.models.loading import find_weights, fingerprint

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

    from sega.models import loading

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
    monkeypatch.setattr("sega.models.loading.open_pipeline", lambda *_: pytest.fail("loaded for nothing"))
    monkeypatch.setattr("sega.runner._loaded", {})
    status, out, err = run(monkeypatch, capsys, *line, "method=sega", "res=128x64", "record=[profiles]")
    assert status == 0 and "0 made, 2 there" in out
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix != ""} == before
    assert not (ROOT / "outputs").exists() and not (ROOT / "multirun").exists()


def test_steps_asked_for_later_are_recorded_without_a_new_picture(monkeypatch, capsys, line, tmp_path):
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
    [("2x", 192, 8, (384, 384)), ("1.5x", 1024, 16, (1536, 1536)), ("4X", 1328, 16, (5312, 5312)),
     ("1x", 192, 8, (192, 192)),
     ("1.3x", 192, 8, (248, 248)), ("0.5x", 192, 8, (96, 96)), (None, 192, 8, (192, 192)), ("640", 192, 8, (640, 640)),
     ("640x320", 192, 8, (640, 320))],
)  # fmt: skip
def test_a_size_may_be_a_multiple_of_the_training_side(res, native, token, size):
    """1.3 x 24 tokens are 31.2, so 31 of them."""
    from sega.plan import parse_size

    assert parse_size(res, native, token) == size


def test_multiples_are_of_each_model_and_equal_to_pixels(tmp_path):
    from sega.cli import check

    words = ["-m", "dry_run=true", "method=vanilla", "prompts=examples", f"store={tmp_path}"]
    sizes = [cell.request.size for cell in check([*words, "model=tiny,flux", "res=1.5x,2x"]).cells]
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

    from sega.cli import plain
    from sega.files import digest
    from sega.geometry import CONF
    from sega.plan import identity, plan

    with initialize_config_dir(str(CONF), version_base="1.3"):
        cell = plan(plain(compose("config", overrides=[*line, *words])))
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
        "method=ntk", "method.kappa=0.1", "method.schedule=stock", "steps=2", "guidance=2.0", "res=256",
        "exact_time=true", "model.dtype=bfloat16", "model.geometry.text_tokens=12",
        "model.compile=true", "model.attention=flash",
    )  # fmt: skip
    hashes = [identity_of(line, change) for change in changes]
    assert base not in hashes and len(set(hashes)) == len(hashes)
    # Tiles change pixels where there is more than one.
    large, tiled = identity_of(line, "res=4096"), identity_of(line, "res=4096", "model.vae_tiling=true")
    assert large != tiled != identity_of(line, "res=4096", "model.vae_tiling=true", "model.vae_tile=1024")
    qwen = ["model=qwen", "dry_run=true"]
    assert identity_of(qwen) != identity_of(qwen, "model.negative_prompt=blur")
    # A staged method says itself how many steps it takes.
    assert identity_of(line, "method=hiflow") == identity_of(line, "method=hiflow", "steps=7")
    assert identity_of(line, "method=hiflow") != identity_of(line, "method=hiflow", "method.base_steps=7")


def test_prompts_come_from_worlds_files_and_the_line(tmp_path):
    from sega.errors import RequestError
    from sega.prompts import load_prompts, named

    config = {"source": "embedded", "seed": 0, "count": 5, "path": None, "items": [], "text": None, "limit": None}
    world = load_prompts(config)
    assert len(world) == 5 and load_prompts(config | {"count": 9})[:5] == world
    assert load_prompts(config | {"limit": 2}) == world[:2]
    assert [item.text for item in load_prompts(config | {"text": ["b", "a", "b"]})] == ["b", "a"]
    assert [item.text for item in load_prompts(config | {"items": ["b", "a"]})] == ["b", "a"]
    path = tmp_path / "list.jsonl"
    path.write_text('{"prompt": "A tall oak, in fog", "id": "oak"}\n\n{"prompt": "A tall oak, in snow"}\n')
    oak, snow = load_prompts(config | {"path": str(path)})
    config |= {"source": "file", "count": 0}
    assert load_prompts(config | {"path": str(path)}) == [oak, snow]
    assert oak.id.startswith("oak-") and snow.id.startswith("a-tall-oak-in-") and oak.id != snow.id
    assert snow == named("A tall oak, in snow")
    assert named("雪").id == named("雪").id != named("雨").id
    path.write_text('{"prompt": "x"}\n{"id": "y"}\n')
    with pytest.raises(RequestError, match="line 2"):
        load_prompts(config | {"path": str(path)})
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(RequestError, match="not UTF-8"):
        load_prompts(config | {"path": str(tmp_path / "latin.txt")})


def test_help_lists_groups_keys_and_examples(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for word in ("hiflow", "tiny", "seeds=[0]", "prompts.limit=2", "WxH", "res=2x"):
        assert word in text


def test_every_option_of_every_group_composes():
    from hydra import compose, initialize_config_dir

    from sega.cli import GROUPS
    from sega.geometry import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        for group in GROUPS:
            for path in sorted((CONF / group).glob("*.yaml")):
                assert compose("config", overrides=[f"{group}={path.stem}"]).model.name
