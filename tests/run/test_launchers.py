"""Sweeps under each launcher, with real processes and a fake denoiser."""

import importlib.util
import json
import os
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CELLS = ("model=tiny", "method=ntk,sega", "res=32", "prompts.limit=3", "steps=1", "device=cpu")


def sweep(tmp_path, *words, **environment):
    """A finished `run.py -m` with the fake denoiser, and a count of the images it began."""
    line = [sys.executable, "tests/helpers/fake_worker.py", "-m", f"store={tmp_path / 'runs'}", *words]
    env = os.environ | {"FAKE_LOG": str(tmp_path / "log"), "PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env=env, timeout=900)
    log = tmp_path / "log"
    return done, Counter(log.read_text().splitlines()) if log.exists() else Counter()


def made(tmp_path):
    """Rows by method."""
    return {
        path.parts[-4]: [json.loads(line)["file"] for line in path.read_text().splitlines()]
        for path in (tmp_path / "runs").glob("tiny/*/*/*/images.jsonl")
    }


def check(tmp_path, done, begun):
    assert done.returncode == 0, done.stderr + done.stdout
    assert sum(begun.values()) == 6 and set(begun.values()) == {1}
    assert {method: len(files) for method, files in made(tmp_path).items()} == {"ntk": 3, "sega": 3}


def test_hydras_own_launcher(tmp_path):
    done, begun = sweep(tmp_path, *CELLS)
    check(tmp_path, done, begun)
    assert len(done.stdout.splitlines()) == 2


def test_joblib(tmp_path):
    check(tmp_path, *sweep(tmp_path, "hydra/launcher=workers", "hydra.launcher.n_jobs=2", *CELLS))


def test_submitit_in_processes_of_this_machine(tmp_path):
    done, begun = sweep(tmp_path, "hydra/launcher=local", *CELLS)
    check(tmp_path, done, begun)
    assert len(list((tmp_path / "runs" / ".multirun" / ".submitit").glob("*/*_result.pkl"))) == 2


SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
open(os.environ["SLURM_SCRIPTS"], "a").write(script)
last = int(re.search(r"--array=0-(\\d+)", script)[1])
for task in range(last + 1):
    about = {{"SLURM_JOB_ID": "7%d" % task, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(task),
             "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0", "SLURM_PROCID": "0",
             "SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "here"}}
    subprocess.Popen(["bash", sys.argv[-1]], env=os.environ | about, start_new_session=True,
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("Submitted batch job 7")
"""
SRUN = """#!/bin/bash
while [[ "$1" == -* ]]; do if [[ "$1" == *=* || "$1" == --unbuffered ]]; then shift; else shift 2; fi; done
exec "$@"
"""
SACCT = "#!/bin/bash\necho 'JobID|State|NodeList'\nfor task in 0 1; do echo \"7_$task|RUNNING|here\"; done\n"


def test_submitit_on_a_stand_in_for_slurm(tmp_path):
    """sbatch, srun and sacct are small scripts that run the array at once: the whole path from line to store."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("sbatch", SBATCH.format(python=sys.executable)), ("srun", SRUN), ("sacct", SACCT)):
        (tools / name).write_text(text)
        (tools / name).chmod(stat.S_IRWXU)
    scripts = tmp_path / "scripts"
    done, begun = sweep(
        tmp_path,
        "hydra/launcher=slurm",
        "hydra.launcher.partition=gpu",
        *CELLS,
        PATH=f"{tools}:{os.environ['PATH']}",
        SLURM_SCRIPTS=str(scripts),
    )
    check(tmp_path, done, begun)
    text = scripts.read_text()
    for word in ("--partition=gpu", "--gpus-per-node=1", "--array=0-1%2", "--ntasks-per-node=1", "--signal="):
        assert word in text, text


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="hydra-ray-launcher is not installed")
def test_ray_on_a_cluster_of_this_machine(tmp_path):
    words = (
        "hydra/launcher=ray_cluster",
        "hydra.launcher.ray.remote.num_gpus=0",
        "+hydra.launcher.ray.init.num_cpus=2",
    )
    check(tmp_path, *sweep(tmp_path, *words, *CELLS))


def test_a_cell_is_split_over_workers_by_prompts(tmp_path):
    words = ("model=tiny", "method=sega", "res=32", "prompts.limit=8", "steps=1", "device=cpu")
    done, begun = sweep(
        tmp_path, "hydra/launcher=workers", "hydra.launcher.n_jobs=2", *words, "part=1/2,2/2", FAKE_SECONDS="1"
    )
    assert done.returncode == 0, done.stderr
    assert len(begun) == 8 and set(begun.values()) == {1}
    assert len(made(tmp_path)["sega"]) == 8
    assert done.stdout.count("-> ") == 2  # two workers on the one cell


def test_a_launcher_that_is_not_installed_is_named(tmp_path):
    away = "hydra.launcher._target_=hydra_plugins.hydra_absent_launcher.launcher.Launcher"
    done, begun = sweep(tmp_path, "hydra/launcher=ray_cluster", away, *CELLS)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "needs the package hydra-absent-launcher" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_failures_are_recorded_and_the_sweep_goes_on(tmp_path):
    done, begun = sweep(tmp_path, "hydra/launcher=workers", *CELLS, FAKE_NAN="cross")
    assert done.returncode == 1 and sum(begun.values()) == 6
    last = done.stdout.splitlines()[-1]
    assert last.startswith("6 images: 4 there; 2 failed") and "retry_failed=true" in last
    (path, _) = sorted((tmp_path / "runs").glob("tiny/*/*/*/failed.jsonl"))
    (row,) = map(json.loads, path.read_text().splitlines())
    assert "not finite" in row["reason"] and "cross" in row["prompt"] and row["seed"] == 0
    again, begun = sweep(tmp_path, *CELLS)  # failed ones are not tried again by themselves
    assert again.returncode == 1 and sum(begun.values()) == 6 and "2 failed" in again.stdout
    mended, begun = sweep(tmp_path, *CELLS, "retry_failed=true")
    assert mended.returncode == 0, mended.stdout
    assert sum(begun.values()) == 8 and not path.exists() and len(made(tmp_path)["ntk"]) == 3
