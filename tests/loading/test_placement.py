"""Placements and switches on small random pipelines. Without a GPU the CPU stands in for it: the same hooks move the
same weights, from memory to itself. Sequential offloading is left out: accelerate can't take "cpu:0" for a GPU.
"""

import shutil

import numpy as np
import pytest
import torch
from small import GEOMETRY, load

from sega import attach
from sega.engine.sampling import generate
from sega.errors import RequestError
from sega.loading.pipeline import load_pipeline, set_theta
from sega.loading.placement import place, quantization, quantize_on_cpu, store_in_fp8, switch

PROMPT = "a photo of a red boat"


@pytest.fixture
def pipe(tiny_folder):
    """`tiny_pipe` once more, to be placed."""
    from diffusers import FluxPipeline

    pipe = FluxPipeline.from_pretrained(tiny_folder)
    set_theta(pipe.transformer, GEOMETRY.theta)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def made(pipe, name="sega", size=(256, 128), **options):
    options = {"seed": 0} | options
    return np.asarray(generate(pipe, load(name), PROMPT, size=size, steps=2, guidance=1.0, **options).image)


@pytest.mark.parametrize("mode", ["offload", "group"])
def test_pixels_do_not_depend_on_the_placement(pipe, tiny_pipe, mode):
    place(pipe, mode, "cpu")
    expected = made(tiny_pipe)
    assert np.array_equal(made(pipe), expected)
    assert np.array_equal(made(pipe), expected)  # the hooks are laid anew after every image


@pytest.mark.parametrize("mode", ["offload", "group"])
def test_a_method_stays_on_over_several_images_and_comes_off(pipe, tiny_pipe, mode):
    place(pipe, mode, "cpu")

    def picture(target):
        noise = torch.Generator().manual_seed(0)
        call = {"height": 128, "width": 256, "num_inference_steps": 2, "generator": noise, "output_type": "np"}
        return target(PROMPT, **call).images

    stock = picture(tiny_pipe)
    with attach(tiny_pipe, load("ntk")):
        expected = picture(tiny_pipe)
    assert not np.array_equal(stock, expected)
    with attach(pipe, load("ntk")) as attachment:
        for _ in range(2):
            assert np.array_equal(picture(pipe), expected)
            assert len(attachment.steps) == 2
    assert np.array_equal(picture(pipe), stock)


def test_a_staged_method_under_offload(pipe, tiny_pipe):
    place(pipe, "offload", "cpu")
    assert np.array_equal(made(pipe, "upsample"), made(tiny_pipe, "upsample"))


def test_an_attention_backend_is_chosen_by_name(pipe):
    with pytest.raises(RequestError, match="model.attention=flesh is unknown; did you mean .*'flash'"):
        switch(pipe.transformer, "flesh", False)
    with pytest.raises(RequestError, match="model.attention=flash can't be used here"):
        switch(pipe.transformer, "flash", False)
    with pytest.raises(RequestError, match="would fetch code from the hub"):
        switch(pipe.transformer, "flash_hub", False)
    switch(pipe.transformer, "native", False)
    assert {str(block.attn.processor._attention_backend) for block in pipe.transformer.transformer_blocks} != {"None"}
    assert made(pipe).shape == (128, 256, 3)


def test_compiling_on_a_cpu_without_a_compiler_is_refused(tiny_folder, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RequestError, match="needs a C.. compiler on a CPU, and there is no no-such-compiler here"):
        load_pipeline(tiny_folder, device="cpu", compile=True)


@pytest.mark.skipif(not (torch.cuda.is_available() or shutil.which("g++")), reason="no GPU and no compiler")
def test_compiled_blocks_answer_as_the_others_up_to_rounding(pipe, tiny_pipe):
    switch(pipe.transformer, None, True)
    difference = made(pipe).astype(int) - made(tiny_pipe)
    assert np.abs(difference).max() <= 2


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_the_configuration_of_quantised_weights_is_diffusers_own(kind):
    from diffusers import BitsAndBytesConfig

    assert quantization(None, torch.bfloat16, ["transformer"]) is None
    config = quantization(kind, torch.bfloat16, ["transformer"])
    chosen = config._resolve_quant_config(is_diffusers=True, module_name="transformer")
    assert isinstance(chosen, BitsAndBytesConfig) and getattr(chosen, f"load_in_{kind}")
    assert config._resolve_quant_config(is_diffusers=True, module_name="vae") is None
    if kind == "4bit":
        assert chosen.bnb_4bit_quant_type == "nf4" and chosen.bnb_4bit_compute_dtype == torch.bfloat16


@pytest.mark.parametrize(("kind", "stored", "lost"), [("8bit", torch.int8, 0.01), ("4bit", torch.uint8, 0.2)])
def test_on_a_cpu_every_linear_layer_is_quantised_in_place(kind, stored, lost, pipe, tiny_pipe):
    layers = {name: layer for name, layer in pipe.transformer.named_modules() if type(layer) is torch.nn.Linear}
    exact = {name: layer.weight.data.clone() for name, layer in layers.items()}
    quantize_on_cpu(pipe.transformer, kind, torch.float32)
    for name, weight in exact.items():
        layer = pipe.transformer.get_submodule(name)
        assert layer.weight.dtype == stored and layer.bias is layers[name].bias
        x = torch.randn(3, weight.shape[1], generator=torch.Generator().manual_seed(0))
        wanted = torch.nn.functional.linear(x, weight, layer.bias)
        assert ((layer(x) - wanted).norm() / wanted.norm()).item() < lost, name
    quantised, plain = made(pipe), made(tiny_pipe)
    assert not np.array_equal(quantised, plain)
    assert np.abs(quantised.astype(int) - plain).mean() < np.abs(made(tiny_pipe, seed=1).astype(int) - plain).mean() / 2


def test_fp8_stores_the_blocks_in_one_byte_and_changes_pixels(pipe, tiny_pipe):
    store_in_fp8(pipe.transformer, pipe.transformer.dtype)
    transformer = pipe.transformer
    assert transformer.transformer_blocks[0].attn.to_q.weight.dtype == torch.float8_e4m3fn
    assert transformer.transformer_blocks[0].norm1.linear.weight.dtype == torch.float32
    stored, exact = made(pipe), made(tiny_pipe)
    assert not np.array_equal(stored, exact)
    assert np.abs(stored.astype(int) - exact).mean() < np.abs(made(tiny_pipe, seed=1).astype(int) - exact).mean() / 4
    assert transformer.transformer_blocks[0].attn.to_q.weight.dtype == torch.float8_e4m3fn  # and stays so
