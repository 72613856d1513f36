"""Numbers as text: ± where it says what the interval says, and the ends of the interval elsewhere."""

import numpy as np
import pytest

from eval.output.numbers import is_even, measured, number


@pytest.mark.parametrize(
    "value, low, high, digits, text",
    [
        (41.2, 37.8, 44.6, 1, "41.2 ±3.4"),
        (0.73, 0.2, 2.61, 2, "0.73 [0.2, 2.6]"),
        (65.04, 53.7, 90.3, 2, "65.04 [54, 90]"),
        (0.995, 0.984, 1.0, 3, "0.995 [0.984, 1.000]"),
        (1.0, 1.0, 1.0, 3, "1.000 ±0.000"),
        (0.9, 0.84, 1.0, 2, "0.90 [0.84, 1.00]"),
        (1.0, 0.02, 2.08, 1, "1.0 [0.0, 2.1]"),
        (-0.3, -0.45, -0.15, 3, "-0.300 ±0.150"),
        (2.0, -0.001, 9.0, 1, "2.0 [0.0, 9.0]"),
        (5.0, None, None, 2, "5.00"),
        (-3.5e-18, -0.031, 0.026, 3, "0.000 ±0.028"),  # a mean of differences that cancel
        (3e-5, -0.031, 0.031, 3, "0.000030 ±0.031000"),
    ],
)
def test_measured(value, low, high, digits, text):
    assert measured(value, low, high, digits) == text


def test_plus_minus_reaches_over_zero_or_one_only_if_the_interval_does():
    shown = 0
    for low, value, high in np.sort(np.random.default_rng(0).uniform(-1.5, 2, (5000, 3)), axis=1):
        if is_even(value, low, high):
            shown, half = shown + 1, (high - low) / 2
            assert value - half >= 0 or low < 0
            assert value - half >= 1 or low < 1
            assert value + half <= 1 or high > 1
    assert shown > 200


def test_no_number_is_minus_zero():
    for value in np.random.default_rng(1).normal(0, 1, 2000) * 10.0 ** np.arange(-8, 2).repeat(200):
        assert float(number(value, 1)) != 0 or not number(value, 1).startswith("-")
