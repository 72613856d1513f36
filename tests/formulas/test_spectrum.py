"""Spectra and magnitudes on inputs whose answer is known."""

import math

import pytest
import torch

from sega.formulas import spectrum


def wave(height, width, cycles, axis):
    length = (height, width)[axis]
    line = torch.cos(2 * math.pi * cycles * torch.arange(length) / length)
    return (line[:, None] if axis == 0 else line[None, :]).expand(height, width).clone()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("length", [24, 64, 33])
def test_a_wave_lands_in_its_bin(axis, length):
    size = [40, 40]
    size[axis] = length
    profile = spectrum.axis_profile(wave(*size, 5, axis), axis, "exact")
    assert len(profile) == length // 2
    assert int(profile.argmax()) == 5
    assert profile[5] > 1e6 * profile[torch.arange(len(profile)) != 5].max()


def test_the_nyquist_line_joins_the_last_bin():
    profile = spectrum.axis_profile(wave(32, 20, 16, 0), 0, "exact")
    assert int(profile.argmax()) == 15
    # Two lines share the bin, so it holds the mean of (32)^2 and 0.
    assert float(profile[15]) == pytest.approx(32**2 / 2, rel=1e-5)


@pytest.mark.parametrize(
    "length, empty", [(64, 0), (128, 0), (256, 0), (96, 3), (160, 1), (192, 6), (258, 6), (384, 11)]
)
def test_reference_binning_leaves_bins_empty_off_powers_of_two(length, empty):
    u = torch.randn(length, 4, generator=torch.Generator().manual_seed(0))
    assert int((spectrum.axis_profile(u, 0, "reference") == 0).sum()) == empty
    assert int((spectrum.axis_profile(u, 0, "exact") == 0).sum()) == 0


@pytest.mark.parametrize("length", [1, 2, 5, 8, 15])
def test_short_axes_are_binned_exactly(length):
    u = torch.randn(length, 20, generator=torch.Generator().manual_seed(0))
    profile = spectrum.axis_profile(u, 0, "reference")
    assert len(profile) == max(length // 2, 1)
    assert torch.equal(profile, spectrum.axis_profile(u, 0, "exact"))
    assert (profile > 0).all()


def test_axis_profile_is_the_marginal_of_the_plane():
    u = torch.randn(64, 48, generator=torch.Generator().manual_seed(1))
    plane = torch.fft.fft2(u).abs().square().sum(dim=1)[:32] / 48**2
    torch.testing.assert_close(spectrum.axis_profile(u, 0)[:31], plane[:31], rtol=1e-4, atol=1e-3)


def test_radial_profile_keeps_all_the_power():
    u = torch.randn(32, 48, generator=torch.Generator().manual_seed(2))
    profile = spectrum.radial_profile(u)
    counts = spectrum._radial_bins(32, 48, u.device).counts
    assert len(profile) == 24 and int(counts.sum()) == 32 * 48
    assert float((profile * counts).sum()) == pytest.approx(float(u.square().sum()) * 32 * 48, rel=1e-4)


def test_flatness_of_white_and_of_one_line():
    assert spectrum.flatness(torch.full((50,), 3.0)) == pytest.approx(1, abs=1e-6)
    line = torch.zeros(50)
    line[7] = 1e4
    assert spectrum.flatness(line) < 1e-6


def test_a_constant_latent_has_no_strength():
    for value in (0.0, 0.1, -1234.567):
        u = spectrum.channel_mean(torch.full((40 * 30, 6), value), (40, 30))
        assert spectrum.strength(u, spectrum.radial_profile(u)) == 0


def test_strength_grows_with_colour():
    generator = torch.Generator().manual_seed(3)
    white = torch.randn(64, 64, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(white[None], 9, stride=1, padding=4)[0]
    weak, strong = (spectrum.strength(u - u.mean(), spectrum.radial_profile(u - u.mean())) for u in (white, smooth))
    assert 0 < weak < 0.1 < 0.8 < strong <= 1


def test_channel_mean_reads_any_dtype_and_leaves_extra_tokens():
    tokens = torch.randn(30, 8, generator=torch.Generator().manual_seed(4))
    u = spectrum.channel_mean(tokens, (4, 5))
    expected = tokens[:20].mean(dim=1)
    torch.testing.assert_close(u, (expected - expected.mean()).reshape(4, 5))
    half = spectrum.channel_mean(tokens.to(torch.bfloat16), (4, 5))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, u, rtol=0, atol=0.02)
    joint = spectrum.channel_mean(torch.stack([tokens, -tokens]), (4, 5))
    torch.testing.assert_close(joint, torch.zeros(4, 5), rtol=0, atol=1e-6)


def test_bands_by_rank_and_by_frequency():
    rank = spectrum.band_positions(28, 64)
    assert rank[0] == 63 and rank[-1] == 0
    torch.testing.assert_close(rank.diff(), torch.full((27,), -63 / 27, dtype=torch.float64))
    physical = spectrum.band_positions(3, 64, cycles=torch.tensor([200.0, 12.5, 0.1]))
    torch.testing.assert_close(physical, torch.tensor([63.0, 12.5, 0.1], dtype=torch.float64), rtol=0, atol=1e-6)


def test_magnitudes_favour_empty_bands():
    profile = torch.logspace(4, 0, 64)
    places = spectrum.band_positions(28, 64)
    m = spectrum.pair_magnitudes(profile, places, 1.1, 0.8)
    unfloored = spectrum.pair_magnitudes(profile, places, 1.1, 0.8, floor=None)
    assert (unfloored.diff() < 0).all()  # pair 0 reads the emptiest bin
    assert torch.equal(m, unfloored.clamp(min=1))
    assert float(unfloored.mean()) == pytest.approx(1.1)
    assert float(unfloored.min()) < 1 and float(m.min()) == 1
    assert torch.equal(spectrum.pair_magnitudes(profile, places, 1.1, 0.0), torch.full((28,), 1.1, dtype=torch.float64))


def test_magnitudes_of_a_flat_profile_are_the_reference():
    m = spectrum.pair_magnitudes(torch.full((64,), 2.0), spectrum.band_positions(28, 64), 1.1, 1.0)
    torch.testing.assert_close(m, torch.full((28,), 1.1, dtype=torch.float64))
