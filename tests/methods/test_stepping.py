"""The keys that say how steps are taken: what they read, what they refuse, and what they leave in an identity."""

import pytest
from small import load

from sega.errors import RequestError
from sega.methods.stepping import PLAIN, Late, Progressive, Stepping, read_stepping
from sega.methods.types import ImageRequest

NONE = {"solver": None, "progressive": None, "late_attention": None, "base_steps": None}


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({}, PLAIN),
        ({"solver": "euler"}, PLAIN),
        ({"solver": "dpm++2m"}, Stepping("dpm++2m")),
        ({"progressive": 0.05}, Stepping(progressive=Progressive(0.05))),
        ({"progressive": "0.1:2"}, Stepping(progressive=Progressive(0.1, 2))),
        ({"late_attention": "window"}, Stepping(late_attention=Late("window", 1.0))),
        ({"late_attention": "window:0.5:0.7"}, Stepping(late_attention=Late("window", 0.5, 0.7))),
        ({"late_attention": "pruned"}, Stepping(late_attention=Late("pruned", 0.5))),
        ({"base_steps": "0.5x"}, Stepping(base_steps=0.5)),
    ],
)
def test_what_a_key_reads(keys, found):
    assert read_stepping(NONE | keys) == found
    assert read_stepping(NONE | found.identity()) == Stepping(found.solver, found.progressive, found.late_attention)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"solver": "huen"}, "model.solver=huen is unknown; did you mean 'heun'"),
        ({"progressive": 0}, "must be a number between 0 and 1, such as 0.05"),
        ({"progressive": "0.05:9"}, "how often the latent is halved, 1 to 3"),
        ({"progressive": "0.05:1:2"}, "must be a number"),
        ({"progressive": True}, "must be a number"),
        ({"late_attention": "windows"}, "unknown; did you mean 'window'"),
        ({"late_attention": "window:0"}, "must be window:<side in training sides>:<sigma up to 1>"),
        ({"late_attention": "pruned:2"}, "share of the pairs, at most 1"),
        ({"late_attention": "window:1:2"}, "such as window:1:0.5"),
        ({"base_steps": 15}, "must be a multiple of those of the method, such as 0.5x"),
        ({"base_steps": "0x"}, "must be a multiple"),
    ],
)
def test_what_names_nothing(keys, message):
    with pytest.raises(RequestError, match=message):
        read_stepping(NONE | keys)


@pytest.mark.parametrize(
    ("keys", "name", "message"),
    [
        ({}, "hiflow", None),
        ({"solver": "heun", "progressive": 0.05}, "ultraimage", None),
        ({"late_attention": "window"}, "sega", None),
        ({"base_steps": "0.5x"}, "scalediff", None),
        ({"solver": "heun"}, "hiflow", "model.solver=heun is for methods of one stage, and hiflow has several"),
        ({"progressive": 0.05}, "upsample", "model.progressive=0.05:1 is for methods of one stage"),
        ({"late_attention": "window"}, "area", "area has an attention of its own"),
        ({"base_steps": "0.5x"}, "sega", "sega has one stage and no base; use steps"),
        ({"base_steps": "0.5x"}, "hiflow", "the stages of hiflow follow the base step by step; use method.base_steps"),
        ({"base_steps": "0.5x"}, "hrdit", "follow the base step by step"),
    ],
)
def test_what_a_method_cannot_have(keys, name, message):
    stepping, method = read_stepping(NONE | keys), load(name)
    if message is None:
        stepping.check(method)
        return
    with pytest.raises(RequestError, match=message):
        stepping.check(method)


def test_fewer_steps_of_the_base_leave_the_other_stages_alone():
    method = load("scalediff")
    stages = method.stages(ImageRequest((256, 256), 8, 3.5))
    base, *more = Stepping(base_steps=0.5).stages(method, stages)
    assert (base.steps, base.plain) == (15, True) and stages[0].steps == 30
    assert more == stages[1:] and more


def test_a_method_whose_stages_follow_the_base_says_so():
    """Its stages read `Point.stored`, which is there at the base's own sigmas only."""
    assert {
        name
        for name in ("imax", "hiflow", "scalediff", "freescale", "hrdit", "pixelrush", "upsample")
        if load(name).tied
    } == {"hiflow", "hrdit"}
