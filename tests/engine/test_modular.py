"""Methods in modular pipelines of diffusers give the pixels that they give in the stock pipelines."""

import numpy as np
import pytest
import torch
from diffusers.modular_pipelines import FluxAutoBlocks, QwenImageAutoBlocks
from small import PROMPT, load

from sega import attach
from sega.engine.modular import with_method
from sega.errors import RequestError
from sega.methods.registry import build_method
from sega.testing import qwen

SIZE = {"height": 192, "width": 128}


def modular(blocks, pipe):
    """A modular pipeline of the components of a stock one."""
    found = with_method(blocks).init_pipeline()
    found.update_components(**{name: part for name, part in pipe.components.items() if name in found.component_names})
    found.set_progress_bar_config(disable=True)
    return found


def options(steps=3, **more):
    return SIZE | {"num_inference_steps": steps, "generator": torch.Generator().manual_seed(0)} | more


def same(one, other):
    return np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("name", ["sega", "dype", "resdit", "ultraimage"])
def test_flux(tiny_pipe, name):
    pipe, method = modular(FluxAutoBlocks(), tiny_pipe), load(name)
    words = {"guidance_scale": 3.5, "max_sequence_length": 32}
    before = {key: dict(vars(part)) for key, part in (("t", pipe.transformer), ("s", pipe.scheduler))}
    found = pipe(prompt=PROMPT, method=method, output="images", **options(**words))[0]
    assert before["t"].keys() == vars(pipe.transformer).keys()  # taken off again
    assert "set_timesteps" not in vars(pipe.scheduler)
    plain = pipe(prompt=PROMPT, output="images", **options(**words))[0]
    assert same(plain, tiny_pipe(PROMPT, **options(**words)).images[0])
    with attach(tiny_pipe, method):
        expected = tiny_pipe(PROMPT, **options(**words)).images[0]
    assert same(found, expected) and not same(found, plain)


def test_attached_by_hand_around_a_call(tiny_pipe):
    blocks = FluxAutoBlocks()
    pipe = blocks.init_pipeline()
    pipe.update_components(**{k: part for k, part in tiny_pipe.components.items() if k in pipe.component_names})
    method, words = load("sega"), {"guidance_scale": 3.5, "max_sequence_length": 32}
    with attach(pipe, method) as attached:
        found = pipe(prompt=PROMPT, output="images", **options(**words))[0]
    assert len(attached.steps) == 3
    with attach(tiny_pipe, method):
        assert same(found, tiny_pipe(PROMPT, **options(**words)).images[0])


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_qwen(guidance):
    stock = qwen.build_pipeline()
    pipe, method = modular(QwenImageAutoBlocks(), stock), build_method({"name": "sega"}, qwen.small_geometry())
    pipe.guider.guidance_scale = guidance
    words = {"negative_prompt": " "}
    found = pipe(prompt=PROMPT, method=method, output="images", **options(**words))[0]
    with attach(stock, method) as attached:
        expected = stock(PROMPT, true_cfg_scale=guidance, **options(**words)).images[0]
    assert len(attached.steps) == (3 if guidance == 1 else 6)
    assert same(found, expected)


def test_a_staged_method_is_refused(tiny_pipe):
    pipe = modular(FluxAutoBlocks(), tiny_pipe)
    with pytest.raises(RequestError, match="several stages"):
        pipe(prompt=PROMPT, method=load("hiflow"), output="images", **options(max_sequence_length=32))


def test_no_such_block():
    with pytest.raises(RequestError, match="no block denoize; did you mean 'denoise'"):
        with_method(FluxAutoBlocks(), "denoize")
