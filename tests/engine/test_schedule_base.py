"""HiFlow and HRDiT: the time shift of the base's tokens in all stages."""

from dataclasses import replace

import numpy as np
import pytest
from shifts import close, shift_exponential

from sega import load_method
from sega.engine.sampling import generate
from sega.engine.timeshift import stage_sigmas
from sega.errors import RequestError
from sega.formulas.schedules import linear_grid, mu_for_tokens, shift_of, tokens_of
from sega.methods.base import Method
from sega.methods.geometry import load_geometry
from sega.methods.registry import build_method
from sega.methods.types import ImageRequest, Stage
from sega.models import adapter_for

NAMES = ("hiflow", "hrdit")
SHORT = {"base_steps": 4, "base_guidance": 1.0, "steps": [3], "guidance": [1.0]}


def stages(name, size, *overrides, model="flux"):
    return load_method(name, model, overrides).stages(ImageRequest(size, 28, 4.5))


@pytest.mark.parametrize("name", NAMES)
def test_the_shift_follows_the_tokens_of_the_base(name):
    assert {stage.schedule for stage in stages(name, (4096, 2048))} == {"4095 tokens"}  # 91 x 45
    assert {stage.schedule for stage in stages(name, (512, 512))} == {"1024 tokens"}
    for size in ((4096, 4096), (2048, 2048)):
        assert {stage.schedule for stage in stages(name, size)} == {"pinned"}  # the base is 64 x 64
    assert {stage.schedule for stage in stages(name, (4096, 2048), "schedule=pinned")} == {"pinned"}
    assert {stage.schedule for stage in stages(name, (4000, 2000), model="qwen")} == {"pinned"}
    own = stages(name, (2656, 2656), "schedule=base", model="qwen")
    assert {stage.schedule for stage in own} == {f"{83 * 83} tokens"}


@pytest.mark.parametrize("name", NAMES)
def test_wrong_schedules(name):
    assert load_method(name).schedule == "base" and load_method(name, "qwen").schedule == "pinned"
    with pytest.raises(RequestError, match="schedule=stock is not allowed"):
        load_method(name, overrides=["schedule=stock"])


def test_times_of_a_stage(tiny_pipe):
    config, adapter = tiny_pipe.scheduler.config, adapter_for(tiny_pipe)
    geometry = load_geometry("tiny")
    mu = mu_for_tokens(77, config.base_shift, config.max_shift, config.base_image_seq_len, config.max_image_seq_len)
    expected = close(shift_exponential(linear_grid(6), mu))
    for tokens in (77, 400):  # whatever the size of the stage
        stage = Stage((64, 64), 6, 1.0, shift_of(77))
        sigmas = stage_sigmas(
            tiny_pipe.scheduler, stage, tokens, adapter.shift(geometry), adapter.unshifted_sigmas(stage)
        )
        np.testing.assert_allclose(sigmas, expected, atol=1e-6)
    assert tokens_of(shift_of(77)) == 77


def small(pipe, name, **settings):
    geometry = replace(load_geometry("tiny"), theta=pipe.transformer.pos_embed.theta, train_tokens=16)
    return build_method({"name": name} | settings, geometry)


def picture(pipe, method, size, steps=4):
    return generate(pipe, method, "a photo of a red boat", seed=0, size=size, steps=steps, guidance=1.0)


def test_all_stages_run_at_the_shift_of_the_base(tiny_pipe):
    method, size = small(tiny_pipe, "hiflow", **SHORT), (224, 160)
    base, target = method.stages(ImageRequest(size, 28, 1.0))
    tokens = base.size[0] // 8 * (base.size[1] // 8)
    assert tokens != 256 and base.schedule == target.schedule == shift_of(tokens)
    made = picture(tiny_pipe, method, size)
    config = tiny_pipe.scheduler.config
    mu = mu_for_tokens(tokens, config.base_shift, config.max_shift, config.base_image_seq_len, config.max_image_seq_len)
    expected = shift_exponential(linear_grid(4), mu)
    assert [step.sigma for step in made.steps] == pytest.approx([*expected, *expected[1:]], abs=1e-5)
    pinned = picture(tiny_pipe, small(tiny_pipe, "hiflow", schedule="pinned", **SHORT), size)
    assert not np.array_equal(np.asarray(made.image), np.asarray(pinned.image))


@pytest.mark.parametrize("name", NAMES)
def test_an_image_below_the_training_size_has_the_shift_of_its_own_tokens(tiny_pipe, name):
    size = (96, 64)
    stock = Method(small(tiny_pipe, name).geometry, schedule="stock")
    made = picture(tiny_pipe, small(tiny_pipe, name, **SHORT), size)
    plain = picture(tiny_pipe, stock, size)
    np.testing.assert_allclose(np.asarray(made.image, int), np.asarray(plain.image, int), atol=1)
