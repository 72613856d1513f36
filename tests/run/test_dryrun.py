"""What a dry run says, and that it loads nothing."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small import load, run
from small import words as small_words

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def line(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sega.loading.weights.HASHES", tmp_path / "weights.json")
    return small_words(tiny_folder, f"store={tmp_path / 'runs'}", "steps=1", "device=cpu")


def test_a_model_that_is_not_here_without_torch(tmp_path):
    code = (
        "import sys; from sega.run.cli import main; status = main(sys.argv[1:]); "
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules))); sys.exit(status)"
    )
    words = [
        "-m",
        "model=flux",
        "method=vanilla,hiflow",
        "res=4096",
        "dry_run=true",
        "tflops=400",
        "model.budget_gb=24",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, f"store={tmp_path / 'runs'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_CACHE": ""},
        timeout=120,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    *_, total, modules = done.stdout.splitlines()
    assert modules == "[]" and not (tmp_path / "runs").exists()
    for words in (
        "flux vanilla 4096x4096",
        "flux hiflow 4096x4096",
        "black-forest-labs/FLUX.1-dev (not on this machine",
        "stage 1  4096x4096: 256x256 = 65536 tokens and 512 of text, 28 steps, guidance 4.5, pinned shift",
        "stage 3  4096x4096",
        "28 transformer calls, 109.7 PFLOP and 97.28 TB an image: 4:34 min at 400 TFLOP/s",
        "the autoencoder has 226 TFLOP of it, 0.2% of the time",
        "transformer 23.8 GB",
        "in tiles",
        "of 24.0 GB on cuda",
        "gpu ",
        "sequential ",
    ):
        assert words in done.stdout, words
    assert total.startswith("2 cells, 16 images to make") and total.endswith("nothing was loaded")


def test_guidance_takes_a_second_call(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    words = ["model=qwen", "method=vanilla", "dry_run=true", f"store={tmp_path}"]
    assert "80 transformer calls" in run(monkeypatch, capsys, *words)[1]
    assert "40 transformer calls" in run(monkeypatch, capsys, *words, "guidance=1")[1]


def test_what_the_store_has_is_counted(line, tmp_path, monkeypatch, capsys):
    words = [*line, "method=ntk", "res=64"]
    status, out, err = run(monkeypatch, capsys, *words, "prompts.limit=1", "seeds=[0,1]")
    assert status == 0, err
    monkeypatch.setattr("sega.loading.pipeline.open_pipeline", lambda *_: pytest.fail("loaded"))
    status, out, _ = run(monkeypatch, capsys, *words, "prompts.limit=3", "seeds=[0,1,2]", "dry_run=true")
    assert status == 0 and "images   9 (3 x 3: prompts x seeds), 2 in the store" in out
    assert "1 cell, 7 images to make" in out
    _, out, _ = run(monkeypatch, capsys, *words, "method.schedule=stock", "prompts.limit=1", "dry_run=true")
    assert "1 (1 x 1: prompts x seeds), 0 in the store" in out
    # Without the weights, cells that differ in nothing else count.
    nowhere = [word for word in words if not word.startswith("model.path")] + ["model.path=/nowhere"]
    _, out, _ = run(monkeypatch, capsys, *nowhere, "prompts.limit=1", "dry_run=true")
    assert "not on this machine" in out and "1 in the store" in out
    assert re.search(r"memory +not known", out)  # the embedded model has no published parts


def test_the_counted_operations_are_those_of_the_run(line, monkeypatch, capsys, tiny_pipe):
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from sega.engine.sampling import generate

    _, out, _ = run(monkeypatch, capsys, *line, "method=vanilla", "res=128x64", "prompts.limit=1", "dry_run=true")
    told, coding = (float(re.search(rf"([\d.e-]+) TFLOP {words}", out)[1]) * 1e12 for words in ("and", "of it"))
    counts = []
    original = type(tiny_pipe.transformer).forward

    @functools.wraps(original)
    def counted(self, *args, **kwargs):
        # The counter knows the products of this kernel; not every fused one of a CPU.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            result = original(self, *args, **kwargs)
        counts.append(counter.get_total_flops())
        return result

    monkeypatch.setattr(type(tiny_pipe.transformer), "forward", counted)
    with torch.no_grad():
        generate(tiny_pipe, load("vanilla"), "a boat", seed=0, size=(128, 64), steps=1, guidance=1.0)
    assert sum(counts) == pytest.approx(told - coding, rel=2e-3)


def test_stages_that_are_alike_are_one_line(line, monkeypatch, capsys):
    def plan(*words):
        said = run(monkeypatch, capsys, *line, "method=pixelrush", "res=256", "dry_run=true", *words)[1]
        return re.findall(r"^  (stages? .*?)  .* (\d+ steps?), guidance [\d.]+, (.*)$", said, re.MULTILINE)

    base = ("stage 1", "30 steps", "pinned shift")
    assert plan() == [base, ("stages 2-10", "1 step", "sigma 0.409")]
    assert plan("method.inversion=velocity", "method.steps=2") == [
        base,
        ("stages 2, 4 ... 18", "1 step", "sigma 0.028"),
        ("stages 3, 5 ... 19", "2 steps", "sigma 0.409, 0.2045"),
    ]


def test_what_a_method_does_not_take_is_said(line, monkeypatch, capsys):
    def notes(*words):
        said = run(monkeypatch, capsys, *line, "res=256", "dry_run=true", *words)[1]
        return re.findall(r"note +(.*)", said)

    assert notes("method=hiflow") == ["steps=1 is not used: hiflow has method.steps and method.base_steps"]
    assert [note.split()[0] for note in notes("method=ultraimage", "guidance=2")] == ["steps=1", "guidance=2"]
    assert notes("method=ultraimage", "method.steps=run") == notes("method=sega", "guidance=2") == []


def test_a_wrong_request_is_refused_there_too(line, monkeypatch, capsys):
    status, out, err = run(monkeypatch, capsys, *line, "res=100", "dry_run=true")
    assert status == 2 and out == "" and "not a multiple of 8 px" in err
