"""A GPU for each worker: shared out by locks of the machine where all workers see all GPUs."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sega.loading import devices

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Pretend that there are so many."""
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(devices, "_kept", [])

    def set_number(number):
        cuda = SimpleNamespace(
            is_available=lambda: number > 0,
            device_count=lambda: number,
            get_device_properties=lambda index: SimpleNamespace(name="GPU", uuid=f"id {index}"),
        )
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        return lambda wish="auto": devices.device_for.__wrapped__(wish)

    return set_number


def test_without_a_choice_there_is_nothing_to_share(gpus):
    assert gpus(0)() == "cpu" and gpus(1)() == "cuda" and gpus(4)("cuda:2") == "cuda:2"


def test_each_worker_takes_a_gpu_that_no_other_has_until_it_ends(gpus, tmp_path, capsys):
    other = "import sys; from sega.loading import devices; print(devices.take('id 0'), flush=True); sys.stdin.read()"
    place = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    worker = subprocess.Popen([sys.executable, "-c", other], stdin=-1, stdout=-1, text=True, env=place)
    assert worker.stdout.readline() == "True\n"
    choose = gpus(3)
    assert [choose(), choose()] == ["cuda:1", "cuda:2"]
    assert choose() in ("cuda:0", "cuda:1", "cuda:2") and "every GPU here has a worker" in capsys.readouterr().err
    worker.communicate("")
    assert choose() == "cuda:0"


@pytest.mark.parametrize(
    "dtype, device, cpu, told",
    [
        ("bfloat16", "cpu", "AVX2", True),
        ("bfloat16", "auto", "AVX2", True),
        ("bfloat16", "cuda", "AVX2", False),
        ("bfloat16", "cpu", "AVX512", False),
        ("float32", "cpu", "AVX2", False),
    ],
)
def test_a_cpu_without_bfloat16_is_told_of(monkeypatch, dtype, device, cpu, told):
    import torch

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = devices.slow(dtype, device)
    assert "model.dtype=float32" in said if told else said is None
