"""The filters of the staged methods against published values and their own definitions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sega.formulas import filters

GOLDEN = Path(__file__).parents[1] / "golden"
VALUES = np.load(GOLDEN / "lowpass.npz")
SCALEDIFF = np.load(GOLDEN / "scalediff.npz")
ATOL = 1e-5
BUTTERWORTH = ["16x16_r0.2", "16x16_r0.5", "32x16_r0.2"]
HAAR = ["dwt_haar_16x16", "dwt_haar_16x24"]


def golden(name, values=VALUES):
    return torch.from_numpy(np.asarray(values[name]))


def close(actual, expected, atol=ATOL):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("case", BUTTERWORTH)
def test_butterworth(case):
    x, ratio = golden(f"{case}/x"), float(case.split("_r")[1])
    close(filters.butterworth_mask(x.shape[-2:], ratio), golden(f"{case}/mask"), atol=1e-6)
    low = filters.butterworth_lowpass(x, ratio)
    close(low, golden(f"{case}/low"))
    close(x - low, golden(f"{case}/high"))


@pytest.mark.parametrize("case", HAAR)
@pytest.mark.parametrize("level", [1, 2])
def test_haar(case, level):
    close(filters.haar_lowpass(golden(f"{case}/x"), level), golden(f"{case}/low_l{level}"))


def test_every_array_is_compared():
    compared = {f"{case}/{name}" for case in BUTTERWORTH for name in ("x", "mask", "low", "high")}
    compared |= {f"{case}/{name}" for case in HAAR for name in ("x", "low_l1", "low_l2")}
    assert compared == set(VALUES.files)


def test_bicubic():
    x = golden("refine_ref", SCALEDIFF)[:, :, :8, :8]
    close(filters.bicubic(x, (16, 16)), golden("bicubic_x2", SCALEDIFF))
    assert filters.bicubic(x, (8, 8)) is x


@pytest.mark.parametrize(("antialias", "a"), [(False, -0.75), (True, -0.5)])
def test_kernels_of_an_enlargement(antialias, a):
    """Twice the size reads four cells at distances 1.25, 0.25, 0.75, 1.75."""
    x, distances = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)), (1.25, 0.25, 0.75, 1.75)

    def kernel(d):
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        return near if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4)

    line = torch.tensor([kernel(d) for d in distances])
    out = filters.bicubic(x, (16, 16), antialias)
    torch.testing.assert_close(out[0, 0, 7, 7], line @ x[0, 0, 2:6, 2:6] @ line)


@pytest.mark.parametrize("size", [(16, 16), (15, 22), (9, 9)])
def test_filters_keep_size_dtype_and_constants(size):
    flat = torch.full((2, 3, *size), 0.7)
    lows = [
        lambda x: filters.haar_lowpass(x, 1),
        lambda x: filters.haar_lowpass(x, 2),
        lambda x: filters.resize_lowpass(x, 0.25),
        lambda x: filters.gaussian_blur(x, 1.0),
        lambda x: filters.sharpen(x, 1.0),
    ]
    if size == (16, 16):  # an odd side puts the zero frequency off the centre of the mask
        lows.append(lambda x: filters.butterworth_lowpass(x, 0.2))
    for low in lows:
        close(low(flat), flat)
        half = low(flat.bfloat16())
        assert half.dtype == torch.bfloat16 and half.shape == flat.shape


def test_a_lowpass_keeps_slow_waves_and_drops_fast_ones():
    place = torch.arange(32) * 2 * torch.pi / 32
    slow = torch.cos(place).expand(1, 1, 32, 32)
    fast = torch.cos(12 * place).expand(1, 1, 32, 32)
    close(filters.butterworth_lowpass(slow, 0.4), slow, atol=1e-3)
    close(filters.butterworth_lowpass(fast, 0.4), fast / (1 + (0.75 / 0.4) ** 8), atol=1e-4)
    assert filters.resize_lowpass(fast, 0.25).abs().mean() < 0.1 * fast.abs().mean()
    assert (filters.resize_lowpass(slow, 0.25) - slow).abs().mean() < 0.15 * slow.abs().mean()


def test_sharpening_equals_torchvision():
    from torchvision.transforms.functional import gaussian_blur

    x = torch.rand(1, 3, 12, 17)
    close(filters.gaussian_blur(x, 0.6), gaussian_blur(x, 3, 0.6), atol=1e-6)
    close(filters.sharpen(x, 0.6), 2 * x - gaussian_blur(x, 3, 0.6), atol=1e-6)


def test_random_sharpening_belongs_to_its_generator():
    x = torch.rand(1, 3, 8, 8)
    draw = [filters.sharpen(x, None, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert draw[0].equal(draw[1]) and not draw[0].equal(draw[2])
    generator, state = torch.Generator().manual_seed(1), torch.random.get_rng_state()
    first, second = filters.sharpen(x, None, generator), filters.sharpen(x, None, generator)
    assert not first.equal(second)
    assert torch.random.get_rng_state().equal(state)
    with pytest.raises(ValueError, match="generator"):
        filters.sharpen(x, None)
