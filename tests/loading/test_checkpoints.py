"""Folders and repositories that can't be used, each answered in one line before anything is loaded."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sega.errors import RequestError
from sega.loading.folder import read_parts
from sega.loading.weights import find_weights

ROOT = Path(__file__).resolve().parents[2]
MODEL = {"name": "flux", "id": "owner/name", "revision": None, "download": False, "geometry": {"family": "flux"}}


@pytest.fixture
def copy(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "copy")
    return tmp_path / "copy"


def refused(folder, family="flux"):
    with pytest.raises(RequestError) as caught:
        find_weights(MODEL | {"path": str(folder), "geometry": {"family": family}})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pickled_weights_are_never_loaded(copy):
    (copy / "vae" / "diffusion_pytorch_model.safetensors").rename(copy / "vae" / "diffusion_pytorch_model.bin")
    assert "only pickled weights (diffusion_pytorch_model.bin)" in refused(copy)
    (copy / "vae" / "diffusion_pytorch_model.bin").unlink()
    assert "the folder vae holds no weights" in refused(copy)


def test_code_in_a_folder_is_never_run(copy):
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "transformer" / "mine.py").write_text("raise SystemExit('this was run')")
    (copy / "model_index.json").write_text(json.dumps(index | {"text_encoder": ["mine", "Encoder"]}))
    assert "code of its own (mine for text_encoder); such code is never run" in refused(copy)
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": ["mine", "Pipeline"]}))
    assert "only FluxPipeline" in refused(copy)


def test_another_family_is_named(copy):
    assert "is a FluxPipeline, but model=flux is of the family qwen" in refused(copy, "qwen")


def test_a_file_cut_short_is_named(copy):
    file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:100], b"", whole[:8] + b"{" * 100, whole + b"x"):
        file.write_bytes(damaged)
        message = refused(copy)
        assert str(file) in message and "damaged" in message and "fetch it again" in message


def test_a_missing_shard_is_named(copy, tiny_pipe):
    shutil.rmtree(copy / "transformer")
    tiny_pipe.transformer.save_pretrained(copy / "transformer", max_shard_size="200KB")
    shards = sorted((copy / "transformer").glob("*.safetensors"))
    assert len(shards) > 1
    find_weights(MODEL | {"path": str(copy)})
    assert read_parts(copy)["transformer"].parameters == sum(p.numel() for p in tiny_pipe.transformer.parameters())
    shards[0].unlink()
    assert f"transformer/{shards[0].name} is missing" in refused(copy)


def test_a_path_may_name_a_repository_of_the_cache(copy, tmp_path, monkeypatch):
    from sega.loading.weights import source

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "models--other--pipeline" / "refs").mkdir(parents=True)
    (tmp_path / "models--other--pipeline" / "refs" / "v2").write_text("abc")
    shutil.copytree(copy, tmp_path / "models--other--pipeline" / "snapshots" / "abc")
    model = MODEL | {"path": "other/pipeline", "revision": "v2"}
    assert find_weights(model).commit == "abc" and source(model) == "other/pipeline"
    assert source(MODEL | {"path": str(copy)}) == "owner/name" == source(MODEL | {"path": None})
    with pytest.raises(RequestError, match="other/pipeline are not on this machine.*model.download=true"):
        find_weights(MODEL | {"path": "other/pipeline"})


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub answers for a gated repository, one that is not there, and one revision that is not."""

    def do_HEAD(self):
        kind = self.path.split("/")[2]
        code = {"gated": "GatedRepo", "revision": "RevisionNotFound", "entry": "EntryNotFound"}.get(kind)
        self.send_response(403 if kind == "gated" else 404)
        self.send_header("X-Error-Code", code or "RepoNotFound")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_):
        pass


def fetched(tmp_path, repository, endpoint, offline="0"):
    line = ["run.py", f"model.path={repository}", "model.download=true", f"store={tmp_path}", "prompts.limit=1"]
    settings = {"HF_HOME": str(tmp_path), "HF_HUB_CACHE": "", "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": offline}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *line], cwd=ROOT, capture_output=True, text=True, env=os.environ | settings, timeout=60
    )
    return done, time.perf_counter() - started


@pytest.mark.parametrize(
    ("repository", "message"),
    [
        ("owner/gated", "accept its terms on https://huggingface.co/owner/gated, then log in with `hf auth login`"),
        ("owner/absent", "the hub has no repository owner/absent"),
        ("owner/revision", "has no revision"),
        ("owner/entry", "has no model_index.json"),
    ],
)
def test_what_the_hub_refuses(tmp_path, repository, message):
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done, _ = fetched(tmp_path, repository, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr


@pytest.mark.parametrize(("offline", "why"), [("1", "HF_HUB_OFFLINE forbids"), ("0", "the hub can't be reached")])
def test_without_a_network_the_answer_comes_at_once(tmp_path, offline, why):
    done, seconds = fetched(tmp_path, "owner/name", "http://127.0.0.1:9", offline)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert why in done.stderr and "give model.path=<folder>" in done.stderr
    assert seconds < 10, seconds  # about one on a free machine; downloads would try again for half a minute
