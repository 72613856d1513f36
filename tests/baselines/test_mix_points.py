"""Where the published methods lie in mix, and where a search starts: at their points mix is each of them."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from small import load, made, pixels

from baselines.points import POINTS, point
from sega import load_method
from sega.errors import RequestError
from sega.home import CONF
from sega.methods.borrowed import DIRECT
from sega.methods.geometry import load_geometry
from sega.methods.registry import METHODS, build_method, method_class
from sega.methods.types import ImageRequest, Step

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
    steps = [Step(index, sigma, grid, sigmas=(1.0, 0.4)) for index, sigma in enumerate((1.0, 0.4))]
    assert [mix.attended(step, 8) for step in steps] == [method.attended(step, 8) for step in steps]
    assert [mix.probes(step) for step in steps] == [method.probes(step) for step in steps]
    assert mix.sentences() == method.sentences()


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
        assert load_method("mix", "flux", re.findall(r"`(.*?)`", cell)) == at(load_method(name))


def test_staged_methods_and_keys_without_a_counterpart_are_no_points():
    for name, words, says in (
        ("hiflow", [], "hiflow is no point of mix"),
        ("ultraimage", ["mode=guided"], "ultraimage is no point of mix"),
        ("ultraimage", ["lambda_max=1.5"], "lambda_max=1.5 has no counterpart"),
        ("window", ["ids=own"], "ids=own has no counterpart"),
    ):
        with pytest.raises(RequestError, match=says):
            point(load_method(name, "flux", words))


SEARCH = OmegaConf.to_container(OmegaConf.load(CONF / "search" / "mix.yaml"))
STARTS = {  # the published method of each starting point
    "vanilla": ("vanilla",),
    "PI": ("pi",),
    "NTK": ("ntk",),
    "YaRN": ("yarn",),
    "DyPE": ("dype",),
    "DyPE on NTK": ("dype", "base=ntk"),
    "SigMa": ("sigma",),
    "TASR": ("tasr",),
    "vision_yarn": ("vision_yarn",),
    "UltraImage's frequencies": ("ultraimage", "focus=false"),
    "SEGA": ("sega",),
}


def searched(settings):
    """The mix of a point of the search: its settings beside the fixed ones."""
    keys = {**SEARCH["fixed"], **settings}
    own = {key.removeprefix("method."): value for key, value in keys.items() if key.startswith("method.")}
    return build_method({"name": "mix", **own}, load_geometry("tiny"))


def test_the_search_starts_from_the_published_methods():
    assert list(SEARCH["start"]) == list(STARTS)
    for label, (name, *words) in STARTS.items():
        found, method = searched(SEARCH["start"][label]), load_method(name, "tiny", words)
        for sigma in SIGMAS:
            ours, theirs = (one.positions((48, 48), sigma, tokens((48, 48))) for one in (found, method))
            for axis in ("height", "width"):
                a, b = getattr(ours, axis), getattr(theirs, axis)
                torch.testing.assert_close(a.frequencies, b.frequencies, rtol=1e-12, atol=0, msg=label)
                torch.testing.assert_close(a.magnitudes, b.magnitudes, rtol=1e-12, atol=0, msg=label)


def drawn(rng):
    """A point of the search's space, ends of ranges among them."""
    values, settings = {}, {}
    for name, entry in SEARCH["space"].items():
        wanted = {key: value if isinstance(value, list) else [value] for key, value in entry.get("when", {}).items()}
        if all(values.get(key) in allowed for key, allowed in wanted.items()):
            low, high = entry.get("float", (0, 0))
            values[name] = rng.choice(entry.get("choice") or [low, high, rng.uniform(low, high)])
            settings[entry.get("key", name)] = values[name]
    return settings


def test_no_point_of_the_search_is_refused():
    rng = random.Random(0)
    found = [searched(drawn(rng)) for _ in range(500)]
    assert {mix.clock_on for mix in found} == {"share", "turns", "ntk_term", "both", "ratio"}
    for method in found[:50]:
        positions = method.positions((48, 48), 0.4, tokens((48, 48)))
        for axis in (positions.height, positions.width):
            assert (axis.frequencies > 0).all() and axis.frequencies.isfinite().all() and (axis.magnitudes > 0).all()
