"""A draft equals what Hydra composes, or there is none."""

import json
import random

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from sega.run import draft
from sega.run.draft import drafts, value_of
from sega.run.first_look import PLAIN
from sega.run.help import options
from sega.run.request import compose_all

KNOWN = (
    *([f"model={model}"] for model in options("model")),
    *(["model=tiny", f"method={method}"] for method in options("method")),
    *([f"speed={speed}", "model=tiny", "method=hiflow"] for speed in options("speed")),
    *([f"prompts={prompts}", "model=tiny2"] for prompts in options("prompts")),
    *([f"tracker={tracker}"] for tracker in options("tracker")),
    ["eval=embedded", "eval.batch=4", "eval.patch.size=64"],
    ["model=tiny", "eval=plain", "prompts=examples"],
    ["model=tiny", "res=2x", "steps=0.5x", "part=1/4", "guidance=-1.5", "seeds=4", "lease=30", "dry_run=TRUE"],
    ["model=tiny", "store=/tmp/a b/c.d-e", "model.path=folder/of.mine", "prompts.text=a red ball on grass"],
    ["model=tiny", "model.progressive=0.05:2", "model.cache=taylorseer:3", "model.late_attention=window:1:0.5"],
    ["method.kappa=false", "method.gamma=null", "res=512x288", "device=cuda:1"],
    ["-m", "model=tiny,tiny2", "method=vanilla,sega", "res=2x,384"],
)
UNKNOWN = (
    ["experiment=demo"],
    ["experiment=null"],
    ["eval=lite0"],
    ["method=nowhere"],
    ["stps=3"],
    ["model.x=3"],
    ["steps.x=3"],
    ["model.geometry=3"],
    ["prompts=null"],
    ["steps=1e3"],
    ["steps=007"],
    ["guidance=nan"],
    ["-m", "seeds=" + ",".join(map(str, range(draft.MOST + 1)))],
)


def settings(words):
    return [(key, text.split(",")) for key, _, text in (word.partition("=") for word in words if word != "-m")]


@pytest.mark.parametrize("words", KNOWN, ids=" ".join)
def test_a_draft_is_what_hydra_composes(words):
    found = drafts(settings(words))
    assert json.dumps(found) == json.dumps(compose_all(words)[1])  # the order of keys too
    assert found


@pytest.mark.parametrize("words", UNKNOWN, ids=lambda words: " ".join(words)[:40])
def test_there_is_none_of_what_is_not_known_for_certain(words):
    assert drafts(settings(words)) == []


def test_drafts_share_nothing():
    one, other = drafts(settings(["-m", "model=tiny", "method=sega,pi"]))
    one["model"]["geometry"]["axes"].append(1)
    assert other["model"]["geometry"]["axes"] == drafts(settings(["model=tiny"]))[0]["model"]["geometry"]["axes"]


@pytest.mark.parametrize("text", ["+5", "1.", ".5", "1_000", "-inf", "NaN", "", " a", "a ", "1e-3", "-x", "9" * 30])
def test_values_that_only_hydra_can_read(text):
    with pytest.raises(ValueError):
        value_of(text)


def test_values_of_random_words_are_those_of_hydra():
    parser, rng, known = OverridesParser.create(), random.Random(1), 0
    pieces = [
        "a",
        "T",
        "x",
        "e",
        "1",
        "0",
        "2",
        ".",
        ":",
        "/",
        " ",
        "-",
        "_",
        "true",
        "null",
        "nan",
        "inf",
        "1e3",
        "0.5",
    ]
    for _ in range(2000):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 5)))
        if not PLAIN.fullmatch(f"key={text}"):
            continue
        try:
            value = value_of(text)
        except ValueError:
            continue
        (word,) = parser.parse_overrides([f"key={text}"])
        assert (type(value), value) == (type(word.value()), word.value()), text
        known += 1
    assert known > 500
