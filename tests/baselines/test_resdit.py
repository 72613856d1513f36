"""ResDiT: its arithmetic against direct computations, then the method on a small random pipeline."""

import numpy as np
import pytest
import torch
from attention import TEXT, attention_call, dense, full
from small import load, made, pixels

from baselines import resdit
from sega import attach, load_method
from sega.errors import RequestError


def test_patches_are_those_of_the_paper():
    assert resdit.patches(256, 64) == [(0, 64), (48, 64), (96, 64), (144, 64), (192, 64)]
    assert [len(resdit.patches(n, 64)) for n in (64, 65, 127, 128, 192)] == [1, 2, 2, 3, 4]
    for length in (65, 127, 131, 256):
        spans = resdit.patches(length, 64)
        assert spans[0][0] == 0 and sum(spans[-1]) == length
        assert all(b[0] <= a[0] + 64 for a, b in zip(spans[:-1], spans[1:], strict=True))


def test_steps_of_the_paper():
    found = [resdit.branches(k, 35, 10 / 35, 20 / 35) for k in range(35)]
    assert found == [(True, False)] * 10 + [(True, True)] * 10 + [(False, True)] * 15
    found = [resdit.branches(k, 28, 10 / 35, 20 / 35) for k in range(28)]
    assert found == [(True, False)] * 8 + [(True, True)] * 8 + [(False, True)] * 12


@pytest.mark.parametrize("shape", ["disk", "square"])
@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_the_low_band(size, shape):
    """A wave below the cut-off passes from the one, a wave above it from the other."""
    rows = torch.arange(size[0])[:, None].expand(size).float()
    slow, fast = (torch.cos(2 * torch.pi * rows * k / size[0])[None, ..., None, None] for k in (1, 3))
    mask = resdit.low_mask(size, 0.2, shape)
    torch.testing.assert_close(resdit.fuse(slow + fast, 0 * slow, mask), slow, rtol=0, atol=1e-5)
    torch.testing.assert_close(resdit.fuse(0 * slow, slow + fast, mask), fast, rtol=0, atol=1e-5)


def test_the_shape_of_the_band():
    disk, square = (resdit.low_mask((20, 20), 0.2, shape) for shape in ("disk", "square"))
    assert square.sum() > disk.sum() and square[4, 4] == 1 and disk[4, 4] == 0 and disk[4, 0] == 1


def test_fusing_equals_and_extremes():
    low, high = torch.randn(2, 3, 1, 6, 9, 2, 4, generator=torch.Generator().manual_seed(0))
    everything, nothing = resdit.low_mask((6, 9), 1.0), torch.zeros(6, 5)
    torch.testing.assert_close(resdit.fuse(low, high, everything), low, rtol=0, atol=1e-5)
    torch.testing.assert_close(resdit.fuse(low, high, nothing), high, rtol=0, atol=1e-5)
    torch.testing.assert_close(resdit.fuse(high, high, resdit.low_mask((6, 9), 0.2)), high, rtol=0, atol=1e-5)


def attended(call, *overrides):
    return load("resdit", *overrides).attention(0, None).attend(call)


def test_the_global_branch_is_interpolation():
    call = attention_call(load("resdit"), (32, 24))
    torch.testing.assert_close(attended(call), full(attention_call(load("pi"), (32, 24))), rtol=0, atol=1e-5)


def test_fused_with_everything_low_is_the_global_branch():
    call = attention_call(load("resdit"), (32, 24), 4)
    torch.testing.assert_close(attended(call, "cutoff=1"), full(call), rtol=0, atol=1e-4)
    assert (attended(call) - full(call)).abs().max() > 1e-2
    text = slice(TEXT)
    assert torch.equal(attended(call)[:, text], full(call)[:, text])


def test_a_patch_is_an_image_of_its_own():
    """The first tokens of the first patch lie in no other: plain attention of a small image at base frequencies."""
    call = attention_call(load("resdit"), (24, 24), 9)
    out = call.image(attended(call)).unflatten(1, (24, 24))
    plain = attention_call(load("vanilla"), (16, 16))
    cut = [
        torch.cat([x[:, :TEXT], call.image(x).unflatten(1, (24, 24))[:, :16, :16].flatten(1, 2)], 1)
        for x in (call.q, call.k, call.v)
    ]
    expected = dense(plain.rotate(cut[0]), plain.rotate(cut[1]), cut[2])[:, TEXT:].unflatten(1, (16, 16))
    torch.testing.assert_close(out[:, :8, :8], expected[:, :8, :8], rtol=0, atol=1e-5)


def test_the_training_size_is_left_alone():
    call = attention_call(load("resdit"), (16, 12), 9)
    assert torch.equal(attended(call), full(call))


def test_an_image_depends_on_its_seed_alone(tiny_pipe):
    images = [pixels(made(tiny_pipe, load("resdit"), (256, 200), steps=3, seed=seed)) for seed in (0, 0, 1)]
    assert np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])


def test_without_a_local_branch_it_is_interpolation(tiny_pipe):
    alone = made(tiny_pipe, load("resdit", "local_from=1", "global_until=1"), (256, 200), steps=3)
    assert np.abs(pixels(alone).astype(int) - pixels(made(tiny_pipe, load("pi"), (256, 200), steps=3))).max() <= 1


def test_a_transformer_alone_has_no_steps_to_count(tiny_pipe):
    transformer = tiny_pipe.transformer
    with attach(transformer, load("resdit")), pytest.raises(RequestError, match="attach it to the pipeline"):
        transformer(
            hidden_states=torch.zeros(1, 32 * 32, transformer.config.in_channels),
            encoder_hidden_states=torch.zeros(1, 24, transformer.config.joint_attention_dim),
            pooled_projections=torch.zeros(1, transformer.config.pooled_projection_dim),
            timestep=torch.ones(1),
            guidance=torch.ones(1),
            img_ids=torch.cartesian_prod(torch.zeros(1), torch.arange(32.0), torch.arange(32.0)),
            txt_ids=torch.zeros(24, 3),
        )


def test_bad_values_are_named():
    with pytest.raises(RequestError, match="local_from"):
        load_method("resdit", "flux", ["local_from=0.8"])
