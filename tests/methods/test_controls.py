"""The checks of `sega.testing`: every method of the project passes them, and wrong methods fail the right one."""

from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar

import pytest
import torch
from method_table import METHODS
from omegaconf import OmegaConf

from sega.methods.base import Attention, Method, uniform_axis
from sega.methods.parameters import Parameter, number
from sega.methods.staged import FromBase
from sega.testing import check_method, checks, small_pipeline


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_a_method_passes_every_check(row):
    check_method(row.name, **OmegaConf.to_container(OmegaConf.from_dotlist([*row.quick, *row.same_shift])))


@dataclass(frozen=True)
class Undeclared(Method):
    """Its parameter is a plain field."""

    share: float = 0.5

    name: ClassVar[str] = "wrong"


@dataclass(frozen=True)
class Unexplained(Method):
    """Its parameter has no documentation."""

    share: float = number(0.5, doc="")

    name: ClassVar[str] = "wrong"


class Anything(Parameter):
    """A parameter that refuses nothing."""

    def check(self, owner, key, value):
        return value


@dataclass(frozen=True)
class Unchecked(Method):
    """It takes any value of its parameter."""

    share: Any = field(default=0.5, metadata={"parameter": Anything("how much", "number")})

    name: ClassVar[str] = "wrong"


@dataclass(frozen=True)
class Infinite(Method):
    """A magnitude beyond all numbers on a longer axis."""

    name: ClassVar[str] = "wrong"

    def stretch(self, dim, scale, sigma):
        return uniform_axis(super().stretch(dim, scale, sigma).frequencies, float("inf"))


@dataclass(frozen=True)
class Everywhere(Method):
    """Sharper attention at the training size too."""

    name: ClassVar[str] = "wrong"

    def attention(self, index, generation):
        class Sharper(Attention):
            def factor(self, call):
                return 2.0

        return Sharper()


CALLS = count(1)


@dataclass(frozen=True)
class Fickle(Method):
    """Another magnitude at each call."""

    name: ClassVar[str] = "wrong"

    def stretch(self, dim, scale, sigma):
        return uniform_axis(super().stretch(dim, scale, sigma).frequencies, float(next(CALLS)))


@dataclass(frozen=True)
class Leaving(Method):
    """It writes on the transformer."""

    name: ClassVar[str] = "wrong"

    def stretch(self, dim, scale, sigma):
        small_pipeline("flux").pipe.transformer.left_here = True
        return super().stretch(dim, scale, sigma)


@dataclass(frozen=True)
class Damaging(Method):
    """It changes a weight."""

    name: ClassVar[str] = "wrong"

    def stretch(self, dim, scale, sigma):
        small_pipeline("flux").pipe.transformer.proj_out.weight.data.zero_()
        return super().stretch(dim, scale, sigma)


@dataclass(frozen=True)
class Shrinking(FromBase):
    """An image of half the size."""

    name: ClassVar[str] = "wrong"

    def finish(self, generation):
        return super().finish(generation)[:, :, ::2, ::2]


@dataclass(frozen=True)
class Random(FromBase):
    """Its image holds noise that no seed decides."""

    name: ClassVar[str] = "wrong"

    def finish(self, generation):
        image = super().finish(generation)
        return image + torch.randn(image.shape).to(image)


WRONG = [
    (checks.parameters_are_declared, Undeclared, "wrong: share: declare it with sega.methods.parameters"),
    (checks.parameters_are_declared, Unexplained, "wrong: share has no line of documentation"),
    (checks.parameters_are_declared, Unchecked, "wrong: share takes anything"),
    (checks.positions_are_sound, Infinite, r"wrong: not finite at \(32, 16\)"),
    (checks.training_size_is_stock, Everywhere, r"wrong: not the stock image at the training size \(flux\)"),
    (checks.removing_leaves_nothing, Fickle, r"wrong: two runs differ \(flux\)"),
    (checks.removing_leaves_nothing, Leaving, r"wrong: leaves something behind \(flux\)"),
    (checks.removing_leaves_nothing, Damaging, r"wrong: changes the pipeline for good \(flux\)"),
    (checks.larger_images_are_made, Shrinking, r"wrong: an image of \(128, 128\) for \(256, 256\) \(flux\)"),
    (checks.larger_images_are_made, Random, r"wrong: two runs differ \(flux\)"),
]


@pytest.fixture
def restored():
    """The small pipeline that all checks share gets back its weights and attributes."""
    transformer = small_pipeline("flux").pipe.transformer
    weight = transformer.proj_out.weight.detach().clone()
    yield
    transformer.proj_out.weight.data.copy_(weight)
    vars(transformer).pop("left_here", None)


@pytest.mark.parametrize("check, wrong, message", WRONG, ids=[wrong.__name__ for _, wrong, _ in WRONG])
def test_a_wrong_method_fails_its_check_with_a_sentence(check, wrong, message, restored):
    with pytest.raises(AssertionError, match=f"^{message}"):
        check(wrong, ("flux",))


def test_each_check_has_a_wrong_method():
    assert {check for check, _, _ in WRONG} == set(checks.CHECKS)
