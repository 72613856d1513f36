"""docs/composition.md is what the code says, and each of its combinations makes an image."""

from dataclasses import replace

import pytest
from small import load, made, pixels

from scripts import composition
from scripts.composition import KEYS, Combination
from sega import load_method
from sega.errors import RequestError
from sega.methods.parameters import parameters_of
from sega.methods.registry import METHODS, method_class
from sega.methods.staged import Staged
from sega.methods.types import Step

ROWS = [
    (family, key, name)
    for family in composition.PIPELINES
    for key in KEYS
    for name in composition.rows(key)
    if key in parameters_of(method_class(name))
]


@pytest.mark.parametrize("family, key, name", ROWS)
def test_a_row_of_the_page_works(family, key, name):
    allowed = [item for item in composition.row(name, key) if composition.refusal(family, item) is None]
    faults = {str(item): composition.fault(family, item) for item in allowed}
    assert allowed and {item: fault for item, fault in faults.items() if fault} == {}


def test_the_page_says_what_the_code_says():
    text = composition.PAGE.read_text()
    assert all(f"<!-- composition:{key} -->" in text for key in KEYS)
    assert composition.page(text) == text, "run python scripts/composition.py"


def test_every_key_that_names_a_method_has_a_table():
    declared = {
        key
        for name in METHODS
        for key, (_, parameter) in parameters_of(method_class(name)).items()
        if len(set(parameter.choices) & set(METHODS)) > 3  # DyPE's and SigMa's `base` are formulas, not methods
    }
    assert declared == set(KEYS)


@pytest.mark.parametrize("family", composition.PIPELINES)
def test_what_changes_nothing_is_found(monkeypatch, family):
    monkeypatch.setattr(Staged, "attention", lambda method, *given: method.own_attention(*given))
    composition.image.cache_clear()
    assert composition.fault(family, Combination("hiflow", "attention_of", "window")) == "it changes nothing"
    composition.image.cache_clear()


@pytest.mark.parametrize(
    "name, override, words",
    [
        ("upsample", "positions_of=yarn", "upsample has no parameter 'positions_of'"),
        ("upsample", "attention_of=window", "upsample has no parameter 'attention_of'"),
        ("yarn", "positions_of=ntk", "yarn has no parameter 'positions_of'"),
        ("window", "positions_of=window", "window: positions_of=window is not allowed"),
        ("hrdit", "positions_of=hiflow", "hrdit: positions_of=hiflow is not allowed"),
        ("hiflow", "attention_of=scalediff", "hiflow: attention_of=scalediff is not allowed"),
        ("hiflow", "attention_of=hap", "hiflow: attention_of=hap is not allowed"),
        ("sega", "frequencies=sega", "sega: frequencies=sega is not allowed"),
    ],
)
@pytest.mark.parametrize("model", ["flux", "qwen"])
def test_what_is_refused_is_refused_when_it_is_loaded(model, name, override, words):
    with pytest.raises(RequestError, match=words) as raised:
        load_method(name, model, [override])
    assert "\n" not in str(raised.value)


def test_both_keys_together(tiny_pipe):
    short = ("base_steps=2", "steps=[2]")
    one, other, both = (
        pixels(made(tiny_pipe, load("hiflow", *short, *parts), (192, 192)))
        for parts in (["positions_of=sega"], ["attention_of=window"], ["positions_of=sega", "attention_of=window"])
    )
    assert (both != one).any() and (both != other).any()


def test_attention_of_counts_as_other_than_dense_and_is_not_for_the_base():
    method = load("hrdit", "hap=false", "attention_of=window")
    large = Step(5, 0.5, (24, 24), stage=1, sigmas=(0.5,) * 6)
    base, dense = replace(large, stage=0), load("hrdit", "hap=false").attended(large, 8)
    assert method.attended(large, 8).pairs < dense.pairs == 584**2 == method.attended(base, 8).pairs
    assert load("imax", "attention_of=window").attention(0, None) is None
    assert "attention_of" not in load("hiflow").identity()
    assert load("hiflow", "attention_of=window").identity()["attention_of"] == "window"
    assert load("ultraimage", "positions_of=yarn").identity()["positions_of"] == "yarn"
    assert "positions_of" not in load("ultraimage").identity()


@pytest.mark.parametrize("positions", ["yarn", "sega"])
def test_guided_ultraimage_takes_positions(tiny_pipe, positions):
    short = ("mode=guided", "base_steps=2", "steps=2", "guidance=1")
    own, other = (
        pixels(made(tiny_pipe, load("ultraimage", *short, *parts), (192, 200)))
        for parts in ([], [f"positions_of={positions}"])
    )
    assert (own != other).any()
