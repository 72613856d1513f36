"""One image over several processes or devices, against the same image from one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import GEOMETRY, load
from small import words as small_words

from sega.engine.sampling import generate
from sega.errors import RequestError
from sega.loading import parallel

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "a red striped ball on the left standing on grass under a cloudy sky with light from the right"


def start(words, processes):
    """run.py in one process, or in several as torchrun starts them: its exit status and what it says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    many = []
    for rank in range(processes):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)} if processes > 1 else {}
        command = [sys.executable, "run.py", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        many.append(subprocess.Popen(command, cwd=ROOT, env=env | place, **pipes))
    said = [process.communicate(timeout=1800) for process in many]
    return [process.returncode for process in many], said


@pytest.mark.parametrize(("method", "res"), [("sega", "256x136"), ("upsample", "256")])
def test_a_split_sequence_gives_the_image_of_one_process(tiny_folder, tmp_path, method, res):
    """Positions from all tokens, and a shared first stage; gloo needs numbers of tokens that divide."""
    words = small_words(
        tiny_folder, f"method={method}", f"res={res}", "steps=2", "device=cpu", f"prompts.text={PROMPT}"
    )
    if method == "upsample":
        words.append("method.base_steps=2")
    images = []
    for processes in (1, 2):
        split = ["model.parallel=ulysses"] if processes > 1 else []
        codes, said = start([*words, *split, f"store={tmp_path / str(processes)}"], processes)
        assert codes == [0] * processes, said
        assert sum("1 made" in out for out, _ in said) == 1
        (path,) = (tmp_path / str(processes)).glob("tiny/[!b]*/*/*/*.png")
        images.append(np.asarray(Image.open(path)).astype(int))
    assert np.abs(images[0] - images[1]).max() <= 1 and images[0].std() > 1


def test_blocks_with_hooks_give_the_same_image(tiny_folder, monkeypatch):
    from diffusers import FluxPipeline

    from sega.loading.pipeline import set_theta

    images = []
    for hooked in (False, True):
        pipe = FluxPipeline.from_pretrained(tiny_folder)
        pipe.set_progress_bar_config(disable=True)
        set_theta(pipe.transformer, GEOMETRY.theta)
        if hooked:
            parallel.spread(pipe, "cpu")
            assert any(hasattr(module, "_hf_hook") for module in pipe.transformer.modules())
        for name in ("sega", "ultraimage"):
            made = generate(pipe, load(name), PROMPT, seed=0, size=(192, 128), steps=1, guidance=1.0)
            images.append(np.asarray(made.image))
    assert np.array_equal(images[0], images[2]) and np.array_equal(images[1], images[3])


def test_blocks_are_shared_out_whole(random_pipe):
    transformer = random_pipe.transformer
    total = sum(parameter.numel() * 4 for parameter in transformer.parameters())
    devices = parallel.device_map(transformer, {0: total, 1: total})
    assert set(devices.values()) == {0, 1}
    for name in devices:
        assert "blocks." not in name or name.count(".") == 1  # a block is one entry
    with pytest.raises(RequestError, match="does not fit"):
        parallel.device_map(transformer, {0: total // 4, 1: total // 4})


MODEL = {"parallel": None, "memory": "auto", "quantize": None, "compile": False, "attention": None}
WRONG = [
    ({"parallel": "rings"}, 1, "sega", "'ring'"),
    ({"parallel": "ulysses"}, 1, "sega", "torchrun --nproc-per-node"),
    ({}, 2, "sega", "only with model.parallel=ulysses"),
    ({"parallel": "ring"}, 2, "sega", "model.attention=_native_cudnn"),
    ({"parallel": "ulysses", "quantize": "4bit"}, 2, "sega", "leave it out"),
    ({"parallel": "blocks", "memory": "offload"}, 1, "sega", "memory=gpu"),
    ({"parallel": "ulysses"}, 2, "ultraimage", "model.parallel=blocks"),
]


@pytest.mark.parametrize(("model", "processes", "method", "message"), WRONG)
def test_what_cannot_work_is_refused_before_anything_loads(monkeypatch, model, processes, method, message):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    with pytest.raises(RequestError, match=message):
        parallel.check(MODEL | model, load(method))


def test_attention_methods_are_refused_on_a_split_transformer(tiny_pipe, monkeypatch):
    from sega import attach

    monkeypatch.setattr("sega.loading.parallel.is_split", lambda transformer: True)
    with pytest.raises(RequestError, match="part of the sequence"):
        attach(tiny_pipe, load("ultraimage"))
    assert "forward" not in vars(tiny_pipe.transformer)


def test_a_class_without_a_plan_is_refused(monkeypatch):
    from types import SimpleNamespace

    with pytest.raises(RequestError, match="no plan to split"):
        parallel.split(SimpleNamespace(_cp_plan=None), "ulysses", "cpu")
