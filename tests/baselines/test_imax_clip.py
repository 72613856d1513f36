"""I-Max's clip in its first stage: bounded by us, raising frequencies in the published code."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines import imax
from sega import load_method
from sega.engine.sampling import generate
from sega.errors import RequestError
from sega.formulas.rope import base_frequencies
from sega.methods.geometry import load_geometry
from sega.methods.registry import build_method
from sega.methods.types import ImageRequest

PROMPT = "a photo of a red boat"
WIDE = ImageRequest((4096, 2048), 28, 4.5)


def test_the_published_clip_raises_frequencies_below_the_training_tokens():
    tokens = 42 * 85
    rho = (tokens / 4096) ** 0.5
    raised = imax.clipped_ntk(56, 10000, 1.0, tokens + 512, 512, 4096, bounded=False)
    torch.testing.assert_close(raised, base_frequencies(56, 10000) / rho)
    assert imax.clipped_ntk(56, 10000, 1.0, tokens + 512, 512, 4096).equal(base_frequencies(56, 10000))
    same = [imax.clipped_ntk(56, 10000, 10.0, 66048, 512, 4096, bounded) for bounded in (True, False)]
    assert same[0].equal(same[1])


def test_stages():
    ours, theirs = (load_method("imax", overrides=[f"clip={clip}"]).stages(WIDE) for clip in ("bounded", "code"))
    assert ours[0].plain and not theirs[0].plain and ours[1] == theirs[1]
    assert replace(theirs[0], plain=True, positions=None) == ours[0] and ours[0].size == (1360, 672)
    rope = theirs[0].positions.positions((42, 85))
    for axis in (rope.height, rope.width):
        torch.testing.assert_close(axis.frequencies, base_frequencies(56, 10000) * (4096 / (42 * 85)) ** 0.5)
    assert theirs[0].identity()["positions"]["clip"] == "code"
    square = ImageRequest((4096, 4096), 28, 4.5)
    code = load_method("imax", overrides=["clip=code"])
    assert code.stages(square) == load_method("imax").stages(square) and code.stages(square)[0].plain
    (only,) = code.stages(ImageRequest((512, 512), 28, 4.5))
    assert not only.plain and only.positions.positions((32, 32)).width.frequencies[0] == 2.0
    with pytest.raises(RequestError, match="did you mean 'code'"):
        load_method("imax", overrides=["clip=coded"])


def test_only_positions_apply_in_the_first_stage():
    method = load_method("imax", overrides=["clip=code"])
    assert method.attention(0, None) is None and method.flow(0, None) is None
    assert method.text_positions((256, 256), 0) == [(0, 0)] and len(method.text_positions((256, 256), 1)) == 16
    assert isinstance(method.attention(1, None), imax.ProportionalAttention)


def picture(pipe, size, *overrides):
    theta = pipe.transformer.pos_embed.theta
    geometry = replace(load_geometry("tiny"), theta=theta, train_tokens=16, sega_train_tokens=16)
    settings = {"base_steps": 2, "steps": 2, "base_guidance": 1.0} | dict(item.split("=") for item in overrides)
    method = build_method({"name": "imax", **settings}, geometry)
    return np.asarray(generate(pipe, method, PROMPT, seed=0, size=size, steps=2, guidance=1.0).image).astype(int)


def test_an_image_with_a_small_first_image_changes_and_a_square_one_does_not(tiny_pipe):
    wide = [picture(tiny_pipe, (320, 192), f"clip={clip}") for clip in ("bounded", "code")]
    assert abs(wide[0] - wide[1]).max() > 0
    square = [picture(tiny_pipe, (256, 256), f"clip={clip}") for clip in ("bounded", "code")]
    assert np.array_equal(*square)
