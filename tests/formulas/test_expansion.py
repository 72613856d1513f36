"""Spectral expansion of a noisy latent: the transform, the noise it fills in, the sigma it ends at, when it is due."""

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from sega.formulas import expansion


def test_the_transform_is_the_orthonormal_dct_of_scipy():
    x = torch.randn(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    expected = dctn(x.double().numpy(), type=2, norm="ortho", axes=(-2, -1))
    np.testing.assert_allclose(expansion.cosines(x).numpy(), expected, atol=1e-5)
    torch.testing.assert_close(expansion.from_cosines(expansion.cosines(x)), x, atol=1e-5, rtol=0)


def test_shrunken_noise_is_white_and_keeps_its_low_frequencies():
    noise = torch.randn(4, 64, 96, generator=torch.Generator().manual_seed(1))
    small = expansion.shrink(noise, (32, 48))
    assert small.shape == (4, 32, 48)
    assert abs(float(small.var()) - 1) < 0.05 and abs(float(small.mean())) < 0.05
    torch.testing.assert_close(expansion.cosines(small), expansion.cosines(noise)[:, :32, :48], atol=1e-4, rtol=0)


@pytest.mark.parametrize("larger", [(32, 32), (24, 40)])
def test_a_latent_that_grows_is_the_noised_latent_of_the_larger_image(larger):
    """Where the small clean latent is the large one without its high frequencies, scaled by the growth of the grid."""
    generator = torch.Generator().manual_seed(2)
    sigma, noise = 0.7, torch.randn(1, *larger, generator=generator)
    low = torch.randn(1, 16, 16, generator=generator)
    ratio = expansion.growth((16, 16), larger)
    spectrum = torch.zeros(1, *larger)
    spectrum[:, :16, :16] = ratio * expansion.cosines(low)
    clean = expansion.from_cosines(spectrum)
    grown, level = expansion.expand((1 - sigma) * low + sigma * expansion.shrink(noise, (16, 16)), noise, sigma)
    assert level == expansion.aligned(sigma, ratio) and sigma < level < 1
    torch.testing.assert_close(grown, (1 - level) * clean + level * noise, atol=1e-4, rtol=1e-4)


def test_the_published_values():
    """t' = 2 t/(1 + t) for twice the side; t of eq. 9 with FLUX's spectrum at half of 1024 px."""
    assert expansion.aligned(0.85, 2) == pytest.approx(0.9189, abs=1e-4)
    variance = expansion.power(0.5, 203.615097 * 64**-1.915461, 1.915461)
    assert variance == pytest.approx(203.615097 * 32**-1.915461)
    for delta in (0.01, 0.05, 0.5):
        sigma = expansion.activation(variance, delta)
        assert delta == pytest.approx((1 - sigma) ** 2 * variance * (1 + variance - delta) / sigma**2)
    assert expansion.activation(variance, 0.01) > expansion.activation(variance, 0.05)
    assert math.isclose(expansion.activation(variance, 0.05), 0.718, abs_tol=1e-3)


def test_the_first_sigma_below_a_level():
    assert expansion.first_below([1.0, 0.8, 0.5], 0.8) == 1
    assert expansion.first_below([1.0, 0.8, 0.5], 0.1) == 3
