"""A call of the transformer takes hardly more memory with a method than without one."""

import gc
from unittest.mock import patch

import numpy as np
import pytest
import torch
from small import GEOMETRY, load, made, pixels

from scripts.bench_memory import MORE, Bench, Shape, in_proportion
from sega.methods.registry import METHODS
from sega.models.parts import in_parts
from sega.testing.live import LiveBytes

SMALL = Shape(side=32, train=8, text=8, head=16, channels=8)
CASES = [(name, parameters) for name in METHODS for parameters in MORE.get(name, ({},))]


@pytest.fixture(scope="module")
def bench():
    return Bench(SMALL, "cpu")


@pytest.fixture(scope="module")
def plain(bench):
    return bench.peak(bench.method("vanilla"))


@pytest.mark.parametrize("name, parameters", CASES)
def test_a_method_takes_a_tenth_more_at_most(bench, plain, name, parameters):
    with in_proportion(SMALL):
        assert bench.peak(bench.method(name, **parameters)) < 1.1 * plain


def test_what_is_dropped_is_gone_without_the_collector():
    gc.disable()
    try:
        with LiveBytes() as live:
            a = torch.ones(1000)
            b = a[:10] + 1
            del a
            assert (live.now, live.peak) == (40, 4040)
            del b
    finally:
        gc.enable()
    assert live.now == 0


def test_work_in_parts_gives_the_same_bits():
    x = torch.randn(2, 9, 6, 8, generator=torch.Generator().manual_seed(0))
    norm = torch.nn.RMSNorm(8)
    with patch("sega.models.parts.LONG", 8):
        assert torch.equal(in_parts(norm, x), norm(x))


@pytest.mark.parametrize("name", ["window", "hiflow", "ultraimage"])
def test_images_are_the_same_in_parts(tiny_pipe, name):
    quick = ("base_steps=2", "steps=[2]", "guidance=[1.0]") if name == "hiflow" else ()
    size = (2 * 8 * GEOMETRY.train_tokens, 8 * GEOMETRY.train_tokens)
    whole = made(tiny_pipe, load(name, *quick), size)
    with patch("sega.models.parts.LONG", 8):
        assert np.array_equal(pixels(made(tiny_pipe, load(name, *quick), size)), pixels(whole))
