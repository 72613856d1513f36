"""Small random pipelines of the embedded model's architecture; tests leave them as they were."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))


def build(**sizes):
    from sega.embedded import model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        t5, clip = model.build_text_encoders()
        transformer, vae = model.build_transformer(**sizes), model.build_autoencoder()
        # A fresh transformer says next to nothing; give it something to say.
        for parameter in transformer.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    pipe = model.assemble(*(part.eval() for part in (transformer, vae, t5, clip)))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def random_pipe():
    """The architecture at its full depth."""
    return build()


@pytest.fixture(scope="session")
def tiny_pipe():
    """One double and one single block."""
    return build(heads=2, double=1, single=1)


@pytest.fixture(scope="session")
def tiny_folder(tiny_pipe, tmp_path_factory):
    """`tiny_pipe` as a folder on disk."""
    folder = tmp_path_factory.mktemp("weights") / "pipeline"
    tiny_pipe.save_pretrained(folder, safe_serialization=True)
    return folder
