"""The Makefile's tables, figures and gallery: a rule for each file, and nothing to do when all is there."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = [
    "table.md",
    "table.csv",
    "table.tex",
    "table-dype.md",
    "grid-flux-32x32.png",
    "grid-flux-64x64.png",
    "scores-flux.png",
    "methods-flux-32x32.png",
    "methods-flux-64x64.png",
    "cost-flux.png",
    "scaling-flux-64x64.png",
    "attention-flux-64x64.png",
    "spectra-flux-64x64.png",
    "gallery/index.html",
]


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "runs" / "flux" / "sega" / "64x64" / "abc"
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text("{}")
    (folder / "0-0.steps.jsonl").write_text("{}")
    return tmp_path


def make(store, *words):
    places = [f"STORE={store / 'runs'}", f"OUT={store / 'out'}", "MODEL=flux", "SIZES=32x32 64x64"]
    command = ["make", "--no-print-directory", *words, "tables", "figures", "gallery", "table-dype", *places]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def touch(store):
    for name in NAMES:
        (store / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (store / "out" / name).touch()


def test_each_file_has_its_rule_and_a_second_call_does_nothing(store):
    planned = make(store, "-n").stdout
    for part in (
        "eval.report parts=tables",
        "eval.published paper=dype",
        "eval.figures grid model=flux size=32x32",
        "eval.figures methods model=flux size=64x64",
        "eval.figures size",
        "eval.figures cost",
        "eval.figures scaling",
        "eval.figures attention",
        "eval.figures spectra",
        "eval.gallery",
    ):
        assert planned.count(part) == 1, part
    assert "run.py" not in planned
    touch(store)
    assert make(store, "-q").returncode == 0
    (store / "out" / "grid-flux-32x32.png").unlink()
    assert [line for line in make(store, "-n").stdout.splitlines() if "eval" in line] == [
        line for line in planned.splitlines() if "eval.figures grid model=flux size=32x32" in line
    ]


def test_the_answer_page_is_made_of_any_store_and_only_when_it_changed(store):
    (store / "installed").touch()
    places = [f"ANSWER={store / 'answer'}", f"ANSWER_STORE={store / 'runs'}", f"STAMP={store / 'installed'}"]
    command = ["make", "--no-print-directory", "answer", *places]
    planned = subprocess.run([*command, "-n"], cwd=ROOT, capture_output=True, text=True).stdout
    assert (
        f"-m eval.answer store={store / 'runs'} out={store / 'answer'} prompt=" in planned and "run.py" not in planned
    )
    (store / "answer").mkdir()
    (store / "answer" / "index.html").touch()
    assert subprocess.run([*command, "-q"], cwd=ROOT).returncode == 0
    later = (store / "answer" / "index.html").stat().st_mtime + 10
    os.utime(next(store.rglob("scores.json")), (later, later))
    assert subprocess.run([*command, "-q"], cwd=ROOT).returncode == 1


def test_new_scores_or_steps_make_what_depends_on_them_again(store):
    touch(store)
    later = (store / "out" / "table.md").stat().st_mtime + 10
    os.utime(next(store.rglob("*.steps.jsonl")), (later, later))
    planned = make(store, "-n").stdout
    assert "eval.figures spectra" in planned and "eval.figures size" not in planned and "eval.report" not in planned
    os.utime(next(store.rglob("scores.json")), (later, later))
    planned = make(store, "-n").stdout
    assert "eval.report parts=tables" in planned and "eval.gallery" in planned and "eval.published" in planned


def test_the_demo_is_generated_first(tmp_path):
    command = ["make", "-n", "gallery", "figures", f"DEMO={tmp_path}"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    assert planned.index("run.py") < planned.index("-m eval store") < planned.index("eval.gallery")
    assert planned.index("record=[") < planned.index("eval.figures scaling")


@pytest.mark.parametrize("dtype, count", [("bfloat16", 5), ("float32", 2)])
def test_the_demo_makes_1x_once_and_2x_with_all_methods(tmp_path, dtype, count):
    """As many prompts as end within four minutes: CPUs without bfloat16 are slow in float32 too."""
    command = ["make", "-n", "demo", f"DEMO={tmp_path}", f"DTYPE={dtype}"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    first, second = [line for line in planned.splitlines() if "run.py" in line]
    assert "method=vanilla res=1x" in first
    assert "method=vanilla,pi,ntk,yarn,dype,sega,area,hiflow,scalediff,upsample res=2x" in second
    assert all(f"model.dtype={dtype}" in line and f"prompts.count={count} " in line for line in (first, second))
    assert planned.index("-m eval store") < planned.index("-m eval.report")


def test_the_dtype_of_the_demo_is_one_this_cpu_is_fast_in(tmp_path):
    command = ["make", "-n", "demo", f"DEMO={tmp_path}"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fast = "amx_bf16" in flags or "avx512_bf16" in flags
    assert f"model.dtype={'bfloat16' if fast else 'float32'} " in planned


def test_the_reference_has_the_row_of_a_network_which_is_fetched_first(tmp_path):
    network = tmp_path / "esrgan-medium-2x.safetensors"
    command = ["make", "-n", "cells", f"ESRGAN={network}"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    fetched = f"scripts/fetch.py esrgan-2x weights={tmp_path}\n"
    assert planned.index(fetched) < planned.index(
        f"method.kind=model method.weights={network} res=2x prompts.count=32 "
    )
    network.touch()
    assert fetched not in subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout


def test_a_preset_whose_weights_are_not_there_is_left_out(tmp_path):
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    (tmp_path / ".venv").mkdir()
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv" / ".installed").touch()

    def presets():
        command = ["make", "-n", "paper-hiflow_1"]
        planned = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        return next(line for line in planned.splitlines() if "for preset in" in line).split(";")[1].split()[3:]

    assert presets() == ["hiflow_1", "hiflow_1_and_imax"]
    (tmp_path / "BSRGAN.pth").touch()
    assert sorted(presets()) == ["hiflow_1", "hiflow_1_and_bsrgan", "hiflow_1_and_imax"]
