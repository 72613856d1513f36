"""Windows alone: the method on a small random pipeline."""

import numpy as np
import pytest
import torch
from attention import attention_call, full, masked
from small import load, made, pixels

from baselines.kernels.windows import windows
from sega import load_method
from sega.errors import RequestError


def attended(call, *overrides):
    method = load("window", *overrides)
    return method.attention(0, None).attend(call)


@pytest.mark.parametrize("grid", [(32, 32), (20, 37)])
def test_it_is_attention_in_windows(grid):
    call = attention_call(load("window"), grid)
    tiles = windows(grid, 16, (0, 0), 2)
    torch.testing.assert_close(attended(call, "shift=false", "halo=2"), masked(call, tiles), rtol=0, atol=1e-5)


@pytest.mark.parametrize("override", ["side=64", "halo=64"])
def test_a_window_over_everything_is_full_attention(override):
    call = attention_call(load("window"), (20, 37))
    torch.testing.assert_close(attended(call, override), full(call), rtol=0, atol=1e-5)


def test_borders_move_from_step_to_step_and_stay_in_a_step():
    part = load("window").attention(0, None)
    first, same, later = (part.attend(attention_call(load("window"), (32, 32), index)) for index in (0, 0, 1))
    assert torch.equal(first, same) and not torch.equal(first, later)
    still = [attended(attention_call(load("window"), (32, 32), index), "shift=false") for index in (0, 1)]
    assert torch.equal(*still)


def test_own_ids_move_the_text():
    call = attention_call(load("window"), (32, 32))
    one, two = attended(call, "ids=own", "shift=false"), attended(call, "shift=false")
    corner = call.text + torch.cartesian_prod(torch.arange(16), torch.arange(16)) @ torch.tensor([32, 1])
    torch.testing.assert_close(one[:, corner], two[:, corner], rtol=0, atol=1e-5)  # the window at the corner
    assert (one[:, -1] - two[:, -1]).abs().max() > 1e-3


def test_an_image_depends_on_its_seed_alone(tiny_pipe):
    method = load("window")
    first, again, other = (made(tiny_pipe, method, (256, 256), seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(pixels(first), pixels(again)) and not np.array_equal(pixels(first), pixels(other))
    plain = made(tiny_pipe, load("vanilla"), (256, 256))
    assert not np.array_equal(pixels(first), pixels(plain))


def test_bad_values_are_named():
    with pytest.raises(RequestError, match="ids=global"):
        load_method("window", "flux", ["backend=flex", "ids=own"])
