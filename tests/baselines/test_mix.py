"""mix contains the direct methods: at their points it is each of them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small import load, made, pixels

from baselines.points import POINTS, point
from sega import load_method
from sega.errors import RequestError
from sega.formulas import rope
from sega.methods.borrowed import DIRECT
from sega.methods.registry import METHODS, build_method, method_class
from sega.methods.types import ImageRequest

GRIDS = {
    "tiny": ((24, 24), (48, 48), (36, 20), (17, 60), (96, 48)),
    "flux": ((64, 64), (128, 128), (256, 256), (64, 160), (136, 240), (70, 30)),
    "qwen": ((64, 83), (128, 128), (200, 60), (90, 70), (100, 190)),
}
SIGMAS = (1.0, 0.93, 0.7, 0.5, 0.105, 0.02, 0.0)
OPTIONS = {
    "vanilla": ["", "schedule=stock"],
    "pi": ["", "schedule=stock"],
    "ntk": [""],
    "yarn": ["", "variant=llm"],
    "dype": [
        "",
        "time=sigma",
        "time=sigma lambda_s=1.5 lambda_t=1.0",
        "time=sigma rule=power",
        "time=sigma acts_on=ntk_term",
        "time=sigma acts_on=both",
        "time=sigma acts_on=both rule=power lambda_s=1.3",
        "time=sigma base=ntk",
        "time=sigma base=ntk lambda_s=1.0 lambda_t=0.5",
        "time=sigma base=ntk ntk=multiplicative",
        "time=sigma base=pi",
        "time=sigma base=pi lambda_s=1.0 schedule=stock",
    ],
    "sigma": ["", "rule=paper", "base=ntk", "magnitude=constant", "centre=0.4 rate=3.0", "base=ntk centre=0.6"],
    "tasr": ["", "watershed=0.0", "watershed=0.62", "watershed=1.0"],
    "vision_yarn": ["", "lambda_s=1.0 lambda_t=1.5", "start_sigma=0.6"],
    "sega": [
        "",
        "variant=paper",
        "ntk=plain",
        "amplitude=0",
        "amplitude=0 m_ref=log kappa=0.2",
        "kappa=0",
        "spread_max=0",
        "m_ref=log gain=3 floor=null gamma=0.7 spread_min=0.2 spread_max=0.8",
        "source=latent band_map=physical binning=exact batch=joint",
        "tie_axes=false",
        *(f"frequencies={name}" for name in DIRECT if name not in ("ntk", "sega")),
    ],
    "ultraimage": [
        "",
        "focus=false",
        "correction=paper focus=false",
        "correction=none",
        "margin=0.7 pairs=[3,4] schedule=stock",
        "positions_of=yarn",
        "shift=3.0",
    ],
    "window": ["", "side=16 halo=2", "positions_of=sega"],
    "resdit": ["", "side=20", "positions_of=ntk"],
    "area": ["", "switch=0.4 halo=3 budget=0.5", "positions_of=vision_yarn"],
}
CASES = [(name, words.split()) for name, lists in OPTIONS.items() for words in lists]


def tokens(grid):
    return torch.randn(grid[0] * grid[1], 5, generator=torch.Generator().manual_seed(3)).cumsum(0)


def published(model, name, words):
    """A method with options; those that only Qwen-Image has are left out elsewhere."""
    kept = [word for word in words if model == "qwen" or word not in ("time=sigma", "tie_axes=false")]
    return load_method(name, model, kept)


def at(method):
    return build_method({"name": "mix"} | point(method), method.geometry)


@pytest.mark.parametrize("model", GRIDS)
@pytest.mark.parametrize("name, words", CASES, ids=lambda value: value if isinstance(value, str) else ",".join(value))
def test_a_published_method_is_a_point(name, words, model):
    method = published(model, name, words)
    mix = at(method)
    assert mix.needs() <= method.needs(), "what is not read need not be asked for"
    for grid in GRIDS[model]:
        for sigma in SIGMAS:
            expected, found = (one.positions(grid, sigma, tokens(grid)) for one in (method, mix))
            assert (found.text, found.stock) == (expected.text, expected.stock)
            for axis in ("height", "width"):
                ours, theirs = getattr(found, axis), getattr(expected, axis)
                torch.testing.assert_close(ours.frequencies, theirs.frequencies, rtol=1e-12, atol=0)
                torch.testing.assert_close(ours.magnitudes, theirs.magnitudes, rtol=1e-12, atol=0)
        size = tuple(side * method.geometry.token_pixels for side in reversed(grid))
        (ours,), (theirs,) = (one.stages(ImageRequest(size, 30, 7.0)) for one in (mix, method))
        assert (ours.size, ours.schedule) == (theirs.size, theirs.schedule)
    assert mix.attends_densely == method.attends_densely and mix.sentences() == method.sentences()


def test_every_direct_method_has_points_here():
    direct = {name for name in METHODS if not method_class(name).staged or name == "ultraimage"} - {"mix"}
    assert direct == set(POINTS) == set(OPTIONS)


@pytest.mark.parametrize(
    "name, words",
    [
        ("sega", ["kappa=0.3"]),
        ("sigma", []),
        ("tasr", []),
        ("vision_yarn", []),
        ("ultraimage", ["steps=2", "guidance=1"]),
        ("window", ["side=5", "halo=1"]),
        ("resdit", []),
        ("area", ["switch=0.8"]),
    ],
)
def test_a_point_makes_the_image_of_its_method(tiny_pipe, name, words):
    method = load(name, *words)
    expected, plain = (pixels(made(tiny_pipe, one, (128, 192))) for one in (method, load("vanilla")))
    assert np.array_equal(pixels(made(tiny_pipe, at(method), (128, 192))), expected)
    assert (expected != plain).any()


def test_the_page_has_the_points_of_the_defaults():
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    rows = re.findall(r"^\| (\w+) \|(.*)\|$", page.partition("| method | keys of mix |")[2].partition("<!--")[0], re.M)
    assert [name for name, _ in rows] == list(POINTS)
    for name, cell in rows:
        assert mix(*re.findall(r"`(.*?)`", cell)) == at(load_method(name))


def test_staged_methods_and_keys_without_a_counterpart_are_no_points():
    for name, words, says in (
        ("hiflow", [], "hiflow is no point of mix"),
        ("ultraimage", ["mode=guided"], "ultraimage is no point of mix"),
        ("ultraimage", ["lambda_max=1.5"], "lambda_max=1.5 has no counterpart"),
        ("window", ["ids=own"], "ids=own has no counterpart"),
    ):
        with pytest.raises(RequestError, match=says):
            point(load_method(name, "flux", words))


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
    before, after = (mix(*words).positions((96, 150), 0.5, tokens((96, 150))) for words in (beside, (*beside, word)))
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
    assert mix().attends_densely and not mix("attention_of=resdit").attends_densely
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
