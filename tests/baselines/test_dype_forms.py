"""The forms of DyPE that only its paper has: multiplicative NTK (table 6) and YaRN by its NTK part (table 7)."""

import pytest
import torch

from sega import load_method
from sega.errors import RequestError
from sega.formulas import rope

D, THETA, N0 = 56, 10000.0, 64
BASE = rope.base_frequencies(D, THETA)


def height(*overrides, sigma=0.5, side=256):
    return load_method("dype", overrides=list(overrides)).positions((side, side), sigma).height.frequencies


def test_the_multiplicative_form_scales_the_ratio_and_stops_at_the_model():
    # kappa = 2 * 0.5^1 = 1 gives NTK itself in both forms.
    ntk = rope.ntk(D, THETA, 4.0)
    for form in ("exponential", "multiplicative"):
        torch.testing.assert_close(height("base=ntk", f"ntk={form}", "lambda_t=1.0"), ntk, rtol=1e-12, atol=0)
    assert rope.dype_ntk_factor(4.0, D, 1.0, form="multiplicative") == pytest.approx(8 ** (56 / 54))
    assert rope.dype_ntk_factor(4.0, D, 1.0) == pytest.approx(16 ** (56 / 54))
    assert height("base=ntk", "ntk=multiplicative", sigma=0.1).equal(BASE)
    assert not height("base=ntk", sigma=0.1).equal(BASE)


def test_where_the_strength_acts_on_yarn():
    static = load_method("yarn").positions((256, 256)).height.frequencies
    terms = {place: height(f"acts_on={place}") for place in ("thresholds", "ntk_term", "both")}
    assert height().equal(terms["thresholds"])
    assert len({tuple(values.tolist()) for values in terms.values()}) == 3
    for place in terms:
        torch.testing.assert_close(height(f"acts_on={place}", sigma=1.0), static, rtol=1e-12, atol=0)
    # The NTK part stands between the pairs that stay and those that are interpolated; only it moves.
    changed = (terms["ntk_term"] / static - 1).abs() > 1e-12
    assert changed.nonzero().flatten().tolist() == [1, 2, 3, 4, 5, 6, 7]
    torch.testing.assert_close(height("acts_on=ntk_term", sigma=0.0)[8:], BASE[8:] / 4)
    assert height("acts_on=both", sigma=0.0).equal(BASE)


def test_both_with_powers_has_the_strength_of_ntk():
    near = rope.dype_ntk(D, THETA, 4.0, 0.5, 2.0, 2.0)
    expected = rope.yarn_image(D, THETA, 4.0, N0, powers=(0.5, 0.5), near=near)
    assert height("acts_on=both", "rule=power").equal(expected)


def test_interpolation_fades_with_the_ratio_of_the_longer_side():
    positions = load_method("dype", overrides=["base=pi"]).positions((64, 128), 0.5)
    for axis in (positions.height, positions.width):
        torch.testing.assert_close(axis.frequencies, BASE / 2**0.5, rtol=1e-12, atol=0)
    assert height("base=pi", sigma=0.0).equal(BASE) and height("base=pi", side=64).equal(BASE)


@pytest.mark.parametrize(
    "overrides, says",
    [
        (["base=pi", "rule=power"], "rule=power is of base=yarn"),
        (["base=ntk", "acts_on=both"], "acts_on=both is of base=yarn"),
        (["acts_on=ntk_term", "rule=power"], "is of the turn counts"),
        (["ntk=multiplicative"], "ntk=multiplicative is of base=ntk"),
    ],
)
def test_keys_without_effect_are_refused(overrides, says):
    with pytest.raises(RequestError, match=says):
        load_method("dype", overrides=overrides)
