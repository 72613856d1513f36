"""UltraImage's guided mode on a small random pipeline: what the published FLUX run does beside its formulas."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from baselines.kernels import focus
from sega import load_method
from sega.engine.sampling import generate
from sega.errors import RequestError
from sega.methods.geometry import load_geometry
from sega.methods.registry import build_method
from sega.methods.types import ImageRequest

PROMPT = "a photo of a red boat"
SETTINGS = {"mode": "guided", "steps": 2, "base_steps": 2, "guidance": 1.0, "base_guidance": 1.0}
SIZE = 208  # 26 tokens, 27 on padded steps: 728 and 753 with text, in blocks of 8: 91 and 95


def small(pipe, **settings):
    geometry = replace(load_geometry("tiny"), theta=pipe.transformer.pos_embed.theta, train_tokens=16)
    return build_method({"name": "ultraimage"} | SETTINGS | settings, geometry)


def watched(pipe, monkeypatch, size=(SIZE, SIZE), **settings):
    """The attention calls of the second stage and the scales they attend with, the factors, and what was generated."""
    calls, scales, factors = [], [], []
    attend, factors_of = focus.Focus.attend, type(small(pipe)).factors

    def watch(self, call):
        def dense(q, k, v, scale=None):
            scales.append(scale)
            return call.dense(q, k, v, scale=scale)

        calls.append(call)
        return attend(self, replace(call, dense=dense))

    def keep(self, entropies, grid, length):
        factors.append((entropies, grid, length, factors_of(self, entropies, grid, length)))
        return factors[-1][-1]

    monkeypatch.setattr(focus.Focus, "attend", watch)
    monkeypatch.setattr(type(small(pipe)), "factors", keep)
    made = generate(pipe, small(pipe, **settings), PROMPT, seed=0, size=size, steps=2, guidance=1.0)
    return calls, scales, factors, made


def test_the_measuring_pass_attends_under_proportional_attention(tiny_pipe, monkeypatch):
    calls, scales, _, made = watched(tiny_pipe, monkeypatch)
    length, width = 27 * 27 + 24, calls[0].q.shape[-1]
    native = {"double": (2 * 16) ** 2 + 24, "single": 16**2 + 24}
    expected = [math.sqrt(math.log(length) / math.log(n) / width) for n in native.values()]
    measured = ["probe" in call.step.details for call in calls]
    assert measured == [True] * 2 + [False] * 4 and len(made.steps) == 2 + 3
    assert scales == pytest.approx([*expected, *[None] * 4])


def test_entropies_are_those_of_the_plain_logits(tiny_pipe, monkeypatch):
    calls, _, ((entropies, *_),), _ = watched(tiny_pipe, monkeypatch)
    block = small(tiny_pipe).block
    for call, found in zip(calls[:2], entropies, strict=True):
        q, k = (call.rotate(x)[0].transpose(0, 1) for x in (call.q, call.k))
        torch.testing.assert_close(found[0], focus.head_entropies(q, k, block))


@pytest.mark.parametrize("lengths", ["code", "native"])
def test_the_measuring_pass_changes_what_is_measured(tiny_pipe, monkeypatch, lengths):
    """The layers after the first see the outputs of proportional attention."""
    _, _, ((entropies, *_),), _ = watched(tiny_pipe, monkeypatch, proportional_length=lengths)
    monkeypatch.undo()
    monkeypatch.setattr(focus.LayeredProportion, "factor", lambda self, call: 1.0)
    _, _, ((plain, *_),), _ = watched(tiny_pipe, monkeypatch, proportional_length=lengths)
    assert entropies[0].equal(plain[0]) and not entropies[1].equal(plain[1])


def test_thresholds_are_those_of_the_image_without_its_border(tiny_pipe, monkeypatch):
    calls, _, ((_, grid, length, factors),), made = watched(tiny_pipe, monkeypatch)
    assert [step.grid for step in made.steps if step.stage == 1] == [(27, 27), (27, 27), (26, 26)]
    assert grid == (26, 26) and length == 26 * 26 + 24
    method = small(tiny_pipe)
    assert method.largest_entropy(grid, length) == math.log(math.ceil(700 / method.block))
    assert method.largest_entropy((27, 27), 27 * 27 + 24) != method.largest_entropy(grid, length)
    assert 1.1 <= float(torch.stack(factors).min()) <= float(torch.stack(factors).max()) <= 1.3


def test_flux_at_3600_px_has_the_published_thresholds_and_positions():
    method = load_method("ultraimage", "flux", ["mode=guided"])
    base, target = method.stages(ImageRequest((3600, 3600), 28, 4.5))
    run = SimpleNamespace(stages=[base, target], double_layers=19)
    part = method.attention(1, run)
    assert part.target == (225, 225) and method.largest_entropy(part.target, 225**2 + 512) == 6.0
    for grid in ((226, 226), (225, 225)):
        rope = target.positions.positions(grid)
        assert rope.height.frequencies[9].item() == pytest.approx(0.85 * 2 * math.pi / 225)
        assert rope.width.frequencies.equal(method.positions((225, 225)).width.frequencies)
    assert target.identity()["positions"] == {"name": "unpadded", "of": "ultraimage", "grid": [225, 225]}


@pytest.mark.parametrize("size", [(3600, 3600), (4096, 2048), (1280, 1024)])
def test_the_first_stage_has_the_training_size_whatever_the_target(size):
    base, target = load_method("ultraimage", "flux", ["mode=guided"]).stages(ImageRequest(size, 28, 4.5))
    assert (base.size, base.plain, base.schedule, base.steps, base.guidance) == ((1024, 1024), True, 3.0, 30, 3.5)
    assert (target.size, target.windows, target.schedule, target.steps) == (size, True, 6.0, 30)


@pytest.mark.parametrize("size", [(1024, 1024), (512, 1536)])
def test_up_to_the_training_size_there_is_one_plain_stage(size):
    (only,) = load_method("ultraimage", "flux", ["mode=guided"]).stages(ImageRequest(size, 28, 4.5))
    assert only.plain and only.size == size


def test_a_wide_image_is_guided_by_a_square_one(tiny_pipe):
    made = generate(tiny_pipe, small(tiny_pipe), PROMPT, seed=0, size=(288, 144), steps=2, guidance=1.0)
    assert made.image.size == (288, 144)
    assert [step.grid for step in made.steps] == [(16, 16)] * 2 + [(19, 37)] * 2 + [(18, 36)]


def test_without_focus_the_reference_length_is_that_of_the_newest_code():
    stages = load_method("ultraimage", "flux", ["mode=guided"]).stages(ImageRequest((3600, 3600), 28, 4.5))
    run = SimpleNamespace(stages=stages, double_layers=19)

    def factors(*overrides):
        part = load_method("ultraimage", "flux", ["mode=guided", "focus=false", *overrides]).attention(1, run)
        return [part.factor(SimpleNamespace(layer=layer, q=torch.zeros(1, 51137, 1, 1))) for layer in (0, 18, 19, 56)]

    long, short = (math.sqrt(math.log(51137) / math.log(n)) for n in (128**2 + 512, 64**2 + 512))
    assert factors() == pytest.approx([long, long, short, short])
    assert factors("proportional_length=native") == pytest.approx([short] * 4)


def test_a_reference_length_of_other_runs_is_refused():
    assert load_method("ultraimage").proportional_length == "native"
    assert load_method("ultraimage", overrides=["mode=guided"]).proportional_length == "code"
    assert load_method("ultraimage", "qwen", ["mode=guided"]).proportional_length == "native"
    for model, overrides in (("flux", []), ("qwen", ["mode=guided"])):
        with pytest.raises(RequestError, match="use native here"):
            load_method("ultraimage", model, ["proportional_length=code", *overrides])
    with pytest.raises(RequestError, match="did you mean 'native'"):
        load_method("ultraimage", overrides=["proportional_length=nativ"])


def test_images_of_the_two_reference_lengths_differ(tiny_pipe):
    images = [
        np.asarray(
            generate(
                tiny_pipe, small(tiny_pipe, **settings), PROMPT, seed=0, size=(SIZE, SIZE), steps=2, guidance=1.0
            ).image
        )
        for settings in ({"focus": False}, {"focus": False, "proportional_length": "native"}, {})
    ]
    assert not np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])
