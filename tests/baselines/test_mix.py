"""The keys of mix: what each changes, what lies between kinds, and what is refused. Its points: test_mix_points.py."""

import pytest
import torch

from sega import load_method
from sega.errors import RequestError
from sega.formulas import rope
from sega.methods.types import ImageRequest, Step


def mix(*words, model="flux"):
    return load_method("mix", model, list(words))


def frequencies(*words, grid=(128, 256), sigma=0.5):
    positions = mix(*words).positions(grid, sigma)
    return positions.height.frequencies, positions.width.frequencies


def test_a_mixture_is_geometric_and_goes_on_beyond_its_ends():
    base = rope.base_frequencies(56, 10000.0)
    for axis, s in zip(frequencies("frequencies=pi", "share=0.25"), (2, 4), strict=True):
        torch.testing.assert_close(axis, base / s**0.25, rtol=1e-12, atol=0)
    for axis, s in zip(frequencies("frequencies=pi", "share=1.5"), (2, 4), strict=True):
        torch.testing.assert_close(axis, base / s**1.5, rtol=1e-12, atol=0)
    one, other = frequencies("frequencies=yarn"), frequencies("frequencies=ntk_sega")
    both = frequencies("frequencies=yarn", "second=ntk_sega", "share=0.3")
    for first, second, found in zip(one, other, both, strict=True):
        torch.testing.assert_close(found, first**0.3 * second**0.7, rtol=1e-12, atol=0)
    ends = (frequencies("frequencies=yarn", "second=ntk_sega", f"share={share}") for share in (1, 0))
    for found, expected in zip(ends, (one, other), strict=True):
        assert all(a.equal(b) for a, b in zip(found, expected, strict=True))


def test_the_axes_that_are_mixed():
    whole = frequencies("frequencies=pi")
    both = frequencies("frequencies=pi", "second=ntk", "share=0.5")
    for axes, mixed in (("longer", (False, True)), ("shorter", (True, False))):
        found = frequencies("frequencies=pi", "second=ntk", "share=0.5", f"mixed={axes}")
        for k, moved in enumerate(mixed):
            assert found[k].equal((both if moved else whole)[k])
    square = frequencies("frequencies=pi", "share=0.5", "mixed=longer", grid=(128, 128))
    assert square[0].equal(square[1]) and not square[0].equal(frequencies("frequencies=pi", grid=(128, 128))[0])


def test_the_ends_of_ranges_are_allowed():
    assert mix("frequencies=pi", "second=ntk", "share=1").mixes
    assert mix("magnitude=log", "amplitude=0", "gain=2").needs() == set()
    assert mix("frequencies=yarn", "clock_on=turns", "strength=1").needs() == set()
    kept = frequencies("frequencies=yarn", "clock_on=turns", "strength=1")
    assert all(a.equal(b) for a, b in zip(kept, frequencies("frequencies=yarn"), strict=True))


def test_a_switch_has_one_kind_above_and_another_below():
    words = ("frequencies=yarn", "second=ntk", "clock=switch", "centre=0.6")
    for sigma, name in ((0.61, "yarn"), (0.6, "ntk"), (0.1, "ntk")):
        for found, expected in zip(
            frequencies(*words, sigma=sigma), frequencies(f"frequencies={name}", sigma=sigma), strict=True
        ):
            assert found.equal(expected)


def test_a_magnitude_can_follow_a_clock_that_leaves_frequencies_alone():
    words = ("clock=power", "exponent=1", "clock_on=nothing", "magnitude=power", "kappa=0.5", "magnitude_clock=true")
    for sigma in (1.0, 0.5, 0.0):
        positions = mix(*words).positions((128, 256), sigma)
        assert positions.height.frequencies.equal(rope.base_frequencies(56, 10000.0))
        assert positions.height.magnitudes.tolist() == pytest.approx([1 + (2**0.5 - 1) * sigma] * 28)
        assert positions.width.magnitudes.tolist() == pytest.approx([1 + (4**0.5 - 1) * sigma] * 28)


TURNS = ("frequencies=yarn", "clock=power", "clock_on=turns")
SPECTRUM = ("magnitude=power", "amplitude=0.15")
KNOBS = [  # what a key is changed beside, and what it is changed to
    ((), "frequencies=pi"),
    (("frequencies=pi", "share=0.5"), "second=ntk"),
    (("frequencies=pi",), "share=0.5"),
    (("frequencies=pi", "share=0.5"), "mixed=longer"),
    (("frequencies=pi",), "ratio=area"),
    (("frequencies=dominant",), "correction=paper"),
    (("frequencies=dominant",), "margin=0.7"),
    (("frequencies=dominant",), "pairs=[4]"),
    (("frequencies=pi",), "clock=power"),
    (("frequencies=yarn", "clock=power"), "clock_on=turns"),
    (TURNS, "rule=power"),
    (TURNS, "strength=1.5"),
    (TURNS, "exponent=1"),
    (("frequencies=pi", "clock=switch"), "centre=0.6"),
    (("frequencies=pi", "clock=sigmoid"), "rate=2"),
    ((), "magnitude=log"),
    (("magnitude=log",), "kappa=0.2"),
    (("magnitude=log",), "magnitude_ratio=area"),
    (("magnitude=log", "frequencies=pi", "clock=power"), "magnitude_clock=true"),
    (("magnitude=log", "clock=power", "clock_on=nothing", "magnitude_clock=true"), "magnitude_start=0.7"),
    (("magnitude=log",), "amplitude=0.15"),
    (SPECTRUM, "gain=3"),
    (SPECTRUM, "floor=1.05"),
    (SPECTRUM, "gamma=0.5"),
    (SPECTRUM, "spread_min=0.9"),
    (SPECTRUM, "spread_max=0.5"),
    (SPECTRUM, "band_map=physical"),
]
ELSEWHERE = {  # shown in other ways, or by the points above
    *("time", "source", "batch", "binning", "tie_axes", "text", "schedule"),
    *("attention_of", "side", "halo", "coarse_above", "budget", "shift"),
}


@pytest.mark.parametrize("beside, word", KNOBS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_key_of_positions_changes_them(beside, word):
    latent = torch.randn(96 * 150, 5, generator=torch.Generator().manual_seed(3)).cumsum(0)
    before, after = (mix(*words).positions((96, 150), 0.5, latent) for words in (beside, (*beside, word)))
    moved = [
        not (a.frequencies.equal(b.frequencies) and a.magnitudes.equal(b.magnitudes))
        for a, b in ((before.height, after.height), (before.width, after.width))
    ]
    assert any(moved)


def test_no_key_is_left_out_here():
    assert {word.partition("=")[0] for _, word in KNOBS} | ELSEWHERE == set(mix().parameters())


def test_keys_of_attention_and_of_the_time_shift():
    window = mix("attention_of=window", "side=20", "halo=3").pattern
    assert (window.name, window.side, window.halo) == ("window", 20, 3)
    area = mix("attention_of=area", "coarse_above=0.4", "budget=0.5", "halo=2").pattern
    assert (area.name, area.switch, area.budget, area.halo) == ("area", 0.4, 0.5, 2)
    step = Step(0, 1.0, (96, 96), sigmas=(1.0,))
    assert mix().attended(step, 8).pairs == (96 * 96 + 8) ** 2 != mix("attention_of=resdit").attended(step, 8).pairs
    shifted = mix("shift=6")
    sizes = ((1024, 1024), (2048, 1024))
    assert [shifted.stages(ImageRequest(size, 28, 3.5))[0].schedule for size in sizes] == ["pinned", 6]


@pytest.mark.parametrize(
    "words, says",
    [
        (["second=pi"], "mix: second=pi has no effect without a share or a clock on it"),
        (["share=0.5"], "frequencies and second are both base"),
        (["clock=power"], "frequencies and second are both base"),
        (["frequencies=pi", "second=pi", "share=0.5"], "both pi"),
        (["ratio=area"], "ratio=area has no effect"),
        (["frequencies=ntk_sega", "ratio=longer"], "ratio=longer has no effect"),
        (["frequencies=pi", "margin=0.5"], "frequencies=dominant"),
        (["frequencies=dominant", "correction=paper", "margin=0.5"], "without correction=code"),
        (["frequencies=pi", "clock=power", "clock_on=turns"], "clock_on=turns has no effect"),
        (["frequencies=ntk_sega", "clock=power", "clock_on=ratio"], "clock_on=ratio has no effect"),
        (["frequencies=yarn", "clock_on=turns"], "clock_on=turns has no effect"),
        (["frequencies=yarn", "clock=power", "clock_on=nothing"], "clock_on=nothing has no effect"),
        (["frequencies=yarn", "rule=power"], "without clock_on=turns or both"),
        (["frequencies=pi", "strength=2"], "strength=2 has no effect"),
        (["exponent=1"], "without clock=power"),
        (["frequencies=pi", "clock=power", "centre=0.5"], "without clock=sigmoid or switch"),
        (["frequencies=pi", "clock=switch", "rate=2"], "without clock=sigmoid"),
        (["kappa=0.2"], "without magnitude=log or power"),
        (["magnitude=log", "magnitude_clock=true"], "without a clock"),
        (["magnitude=log", "gain=2"], "without an amplitude"),
        (["amplitude=0.1"], "without magnitude=log or power"),
        (["magnitude=power", "tie_axes=true"], "ratios of their own"),
        (["side=8"], "without attention_of=window or resdit"),
        (["attention_of=window", "budget=0.5"], "without attention_of=area"),
        (["shift=3", "schedule=stock"], "without shift=null"),
        (["text=own"], "no table of its own"),
        (["frequencies=pi", "clock=power", "time=as_run"], "time=as_run"),
        (["frequencies=dominant", "pairs=[40]"], "pairs"),
        (["magnitude=log", "amplitude=0.1", "spread_min=2"], "spread_min=2 must not exceed"),
        (["frequencies=yran"], "did you mean 'yarn'"),
    ],
)
def test_what_has_no_effect_is_refused_in_one_line(words, says):
    with pytest.raises(RequestError, match=says) as raised:
        mix(*words)
    assert "\n" not in str(raised.value)
