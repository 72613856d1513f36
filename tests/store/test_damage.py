"""A short form of scripts/damage_test.py: a few files, with a fake denoiser; the script by itself takes every file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINE = "lines=method=sega res=32 record=[profiles]"
COMMON = "common=model=tiny prompts.text=[a,b,broken] steps=1 device=cpu"


@pytest.mark.parametrize("verify", ["false", "true"])
def test_a_damaged_file_costs_nothing_else_and_the_next_run_mends_it(tmp_path, verify):
    files = ".jsonl,run.json" if verify == "false" else "images.jsonl,.png,scores.json"
    program = "program=tests/helpers/fake_worker.py"
    words = [
        f"folder={tmp_path}",
        program,
        LINE,
        COMMON,
        f"files={files}",
        f"verify={verify}",
        "ways=empty,garble,folder",
    ]
    done = subprocess.run(
        [sys.executable, "scripts/damage_test.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"FAKE_NAN": "broken", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100.0 % right" in done.stdout and int(done.stdout.splitlines()[-1].split()[0]) >= 12


@pytest.mark.parametrize("word", ["ways=burn", "files", "kills=5"])
def test_wrong_options_print_the_help(word):
    done = subprocess.run([sys.executable, "scripts/damage_test.py", word], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "python scripts/damage_test.py" in done.stdout
