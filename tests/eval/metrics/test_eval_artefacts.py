"""Artefact measures on images whose artefacts were put there."""

import numpy as np
import pytest

from eval.metrics.pixels.artefacts import radial_spectrum, seam_energy, upper_octave
from eval.records.runs import RunImage
from eval.scoring.aggregate import Scored
from eval.scoring.references import References


def texture(height, width, seed=0, smooth=1):
    """Noise with a flat or falling spectrum, 0..255, in whole values."""
    noise = np.random.default_rng(seed).normal(0, 1, (height, width))
    for _ in range(smooth):
        noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))) / 4
    return np.clip(128 + 40 * noise / noise.std(), 0, 255).round()


def windows(y, side, strength):
    """The image with a brightness of its own in each window."""
    offsets = np.random.default_rng(1).normal(0, strength, (y.shape[0] // side + 1, y.shape[1] // side + 1))
    rows, columns = np.arange(y.shape[0]) // side, np.arange(y.shape[1]) // side
    return y + offsets[rows][:, columns]


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (131, 128)])
@pytest.mark.parametrize("smooth", [0, 1, 8])
def test_an_image_without_windows_has_no_seams(size, smooth):
    assert abs(np.mean([seam_energy(texture(*size, seed, smooth), 32) for seed in range(12)])) < 0.35


def test_seams_rise_with_the_difference_of_the_windows():
    y = texture(128, 128, smooth=60)
    found = [seam_energy(windows(y, 32, strength), 32) for strength in (0, 5, 20)]
    assert abs(found[0]) < 2 and found[1] > found[0] + 1 and found[2] > found[1] + 5
    assert seam_energy(windows(y, 32, 20), 64) > 3  # every second line
    assert seam_energy(windows(y, 20, 20), 32) < 0  # lines elsewhere


def test_an_object_on_the_lattice_is_no_seam_beside_it():
    """A smooth edge that happens to lie near a line raises both sides."""
    x = np.arange(128)
    edge = np.repeat(128 + 80 * np.tanh((x - 64) / 12)[None], 128, 0) + texture(128, 128, 3, 4) - 128
    assert abs(seam_energy(edge, 32)) < 2


def test_flat_and_small_images():
    assert seam_energy(np.full((64, 64), 9.0), 32) == 0
    assert seam_energy(np.full((32, 32), 9.0), 32) is None
    assert seam_energy(texture(32, 80), 32) is not None  # one axis is enough


def test_the_upper_octave_is_above_half_of_nyquist():
    upper = upper_octave(128, 24)
    assert 0 < upper.sum() < len(upper) / 2 and upper[-1] and not upper[0]
    wave = 128 + 50 * np.sin(2 * np.pi * 20 * np.arange(128) / 128)[None].repeat(128, 0)
    assert not upper[radial_spectrum(wave, 24).argmax()]
    wave = 128 + 50 * np.sin(2 * np.pi * 40 * np.arange(128) / 128)[None].repeat(128, 0)
    assert upper[radial_spectrum(wave, 24).argmax()]


@pytest.mark.parametrize("gain, decibel", [(1.0, 0.0), (2.0, 6.02), (0.5, -6.02)])
def test_high_frequency_energy_is_the_gain_over_the_reference(gain, decibel):
    """An image with `gain` times the amplitude above half of Nyquist."""
    images, references = [], []
    radius = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None])
    for seed in range(8):
        y = np.random.default_rng(seed).normal(128, 30, (128, 128))
        references.append(radial_spectrum(y, 24))
        spectrum = np.fft.fft2(y)
        spectrum[radius >= 0.25] *= gain
        images.append(radial_spectrum(np.fft.ifft2(spectrum).real, 24))
    reference = References({"spectrum": np.stack(references)}, ("",) * 8)
    scored = Scored(
        [RunImage(None, str(k), 0) for k in range(8)], [{"spectrum": s} for s in images], reference, (128, 24)
    )
    scored.add_spectrum_distance()
    assert np.mean([v["high_frequency"] for v in scored.values]) == pytest.approx(decibel, abs=0.4)
