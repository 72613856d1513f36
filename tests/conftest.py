"""Small random pipelines of the embedded model's architecture; tests leave them as they were."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))


@pytest.fixture(scope="session")
def random_pipe():
    """The architecture at its full depth."""
    from small import build

    return build()


@pytest.fixture(scope="session")
def tiny_pipe():
    """One double and one single block."""
    from small import build

    return build(double=1, single=1)


@pytest.fixture(scope="session")
def tiny_folder(tiny_pipe, tmp_path_factory):
    """`tiny_pipe` as a folder on disk."""
    folder = tmp_path_factory.mktemp("weights") / "pipeline"
    tiny_pipe.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture
def line(tiny_folder, tmp_path, monkeypatch):
    """Words of a short run on `tiny_folder`, for tests of run.py; the hash cache goes elsewhere."""
    from small import words

    monkeypatch.setattr("sega.loading.weights.HASHES", tmp_path / "weights.json")
    return words(tiny_folder, f"store={tmp_path / 'runs'}", "steps=1", "device=cpu", "prompts.limit=2")
