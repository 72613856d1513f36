"""`load_pipeline`, and methods and images of a pipeline that is already there."""

import numpy as np
import pytest
import torch

from sega import RequestError, generate, load_method, load_pipeline
from sega.loading.known import geometry_of, model_config
from sega.methods.geometry import load_geometry, models

PROMPT = "a red striped ball on the left standing on grass under a cloudy sky with light from the right"


@pytest.fixture(scope="module")
def tiny():
    return load_pipeline("tiny", device="cpu")


def test_the_shipped_model_is_the_stock_class_and_ready(tiny):
    assert type(tiny).__name__ == "FluxPipeline" and tiny.transformer.dtype == torch.float32
    assert tiny.transformer.pos_embed.theta == load_geometry("tiny").theta
    assert tiny.default_sample_size * tiny.vae_scale_factor == 192


def test_the_short_way_to_an_image_is_the_long_one(tiny):
    """Size, steps and guidance left out are the model's own."""
    method = load_method("ntk", tiny)
    assert method == load_method("ntk", "tiny")
    short = generate(tiny, method, PROMPT, steps=2)
    long = generate(tiny, method, PROMPT, seed=0, size=(192, 192), steps=2, guidance=3.5)
    assert np.array_equal(np.asarray(short.image), np.asarray(long.image))
    assert generate(tiny, method, PROMPT, size="0.5x", steps=1).image.size == (96, 96)
    other = generate(tiny, method, PROMPT, steps=2, guidance=1.0)
    assert not np.array_equal(np.asarray(short.image), np.asarray(other.image))


def test_a_folder_is_recognised(tiny_folder):
    assert model_config(tiny_folder)["name"] == "tiny" and model_config(str(tiny_folder))["path"] == str(tiny_folder)
    pipe = load_pipeline(tiny_folder, device="cpu", dtype="bfloat16")
    assert pipe.transformer.dtype == torch.bfloat16
    assert geometry_of(tiny_folder) == geometry_of("tiny")


def test_a_pipeline_of_another_base_keeps_it(tiny_pipe):
    from sega.loading.pipeline import set_theta

    before = tiny_pipe.transformer.pos_embed.theta
    try:
        set_theta(tiny_pipe.transformer, 5000.0)
        assert geometry_of(tiny_pipe).theta == 5000.0
    finally:
        set_theta(tiny_pipe.transformer, before)


@pytest.mark.parametrize("name", [name for name in models() if name not in ("flux_krea", "flux_schnell", "tiny2")])
def test_every_published_config_is_recognised_as_its_model(name):
    """By class and axes, as `published` in conf/model states them where it does."""
    from sega.loading.known import _recognised
    from sega.methods.families import family_named

    geometry = load_geometry(name)
    pipeline = family_named(geometry.family).pipelines[0]
    assert _recognised(pipeline, {"axes_dims_rope": list(geometry.axes)}, "it") == name


@pytest.mark.parametrize(
    ("model", "words"),
    [("tinny", "tiny"), ("/no/such/folder", "the folder of a diffusers pipeline"), ("", "unknown model")],
)
def test_what_is_no_model_is_refused_in_one_line(model, words):
    for call in (load_pipeline, lambda model: load_method("sega", model)):
        with pytest.raises(RequestError, match=words) as error:
            call(model)
        assert "\n" not in str(error.value)


def test_wrong_keys_and_missing_weights_are_refused():
    with pytest.raises(RequestError, match="dtype"):
        load_pipeline("tiny", dtpye="float32")
    with pytest.raises(RequestError, match="not on this machine|is not a folder"):
        load_pipeline("flux", path="/no/such/folder")


def test_axes_that_no_model_has_are_refused(tiny_pipe):
    from sega.loading.known import _recognised

    with pytest.raises(RequestError, match="no model in conf/model"):
        _recognised("FluxPipeline", {"axes_dims_rope": [8, 12, 12]}, "this pipeline")
    with pytest.raises(RequestError, match="only FluxPipeline"):
        _recognised("StableDiffusionPipeline", {}, "this pipeline")
