"""The files of conf/search: what is read, and one line for each mistake."""

import copy

import pytest
import yaml

from eval.search.definition import Dimension, word
from eval.search.read import names, read_definition
from sega.errors import RequestError

GOOD = {
    "fixed": {"model": "tiny", "res": "2x"},
    "space": {
        "method": {"choice": ["dype", "sega"]},
        "method.kappa": {"float": [0.0, 0.5], "when": {"method": "sega"}},
        "method.lambda_s": {"float": [0.1, 10], "log": True, "when": {"method": "dype"}},
        "steps": {"int": [10, 20], "step": 5},
    },
    "start": {"a": {"method": "vanilla"}, "b": {"method": "dype"}, "c": {"method": "sega"}},
    "objective": {"eval": "embedded", "metrics": {"fid": "lower", "high_frequency": "zero"}},
    "prune": {"after": 4, "beaten": 0.5},
}


@pytest.fixture
def read(tmp_path):
    def read(content, **changes):
        (tmp_path / "search").mkdir(exist_ok=True)
        (tmp_path / "search" / "mine.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return read_definition("mine", changes, [tmp_path])

    return read


@pytest.mark.parametrize("name", names())
def test_searches_that_ship_are_sound_and_have_captions_of_their_own(name):
    found = read_definition(name)
    assert found.name == name
    assert found.fixed["prompts.seed"] not in (0, 11, 29, 31)


def test_a_file_is_read(read):
    found = read(GOOD, **{"res": "3x", "prompts.limit": "2"})
    assert found.name == "mine"
    assert found.fixed == {"model": "tiny", "res": "3x", "prompts.limit": 2}
    assert [dimension.name for dimension in found.space] == list(GOOD["space"])
    assert found.prune.after == (4,)
    assert found.objective.protocol["metrics"] == ["fid", "high_frequency"]
    assert found.words({"method": "sega", "res": "4x"}) == ["model=tiny", "res=4x", "prompts.limit=2", "method=sega"]


def test_conditions(read):
    kappa = read(GOOD).space[1]
    assert kappa.is_used({"method": "sega"})
    assert not kappa.is_used({"method": "dype"})
    assert not kappa.is_used({})


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        (Dimension("x", "x", ("a", None, True, 1)), ["a", None, True, 1], ["b", False, 2]),
        (Dimension("x", "x", low=0.0, high=1.0), [0, 0.3, 1.0], [-0.1, 1.1, "auto", True, None]),
        (Dimension("x", "x", low=0.0, high=1.0, step=0.25), [0.0, 0.75], [0.3]),
        (Dimension("x", "x", low=1, high=9, whole=True), [1, 4.0], [4.5, 10]),
    ],
)
def test_what_a_dimension_contains(dimension, inside, outside):
    assert [dimension.contains(value) for value in inside] == [True] * len(inside)
    assert [dimension.contains(value) for value in outside] == [False] * len(outside)


def test_words():
    settings = {"a": None, "b": True, "c": 0.1, "d": "x"}
    assert [word(key, value) for key, value in settings.items()] == ["a=null", "b=true", "c=0.1", "d=x"]


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("spaces", {}, "unknown key spaces"),
        ("name", "a/b", "name=a/b"),
        ("space", {}, "space is empty"),
        ("space.method", ["dype"], "space.method must be like"),
        ("space.method", {"choice": []}, "list of values"),
        ("space.method", {"choice": ["a"], "float": [0, 1]}, "one of choice, float and int"),
        ("space.steps", {"int": [1.5, 2]}, "of int numbers"),
        ("space.steps", {"int": [9, 2]}, "low below high"),
        ("space.steps", {"float": [0, 1], "log": True}, "low is above 0"),
        ("space.steps", {"int": [1, 9], "step": 0}, "step must be above 0"),
        ("space.steps", {"int": [1, 9], "when": {"methods": "sega"}}, "did you mean 'method'"),
        ("space.steps", {"int": [1, 9], "when": {"method": "sga"}}, "method is never sga"),
        ("space.store", {"choice": ["a"]}, "store can't be searched"),
        ("fixed.device", "cpu", "device is an option of the command"),
        ("fixed.steps", 4, "steps is searched"),
        ("fixed.x", {"y": 1}, "fixed.x must be a value"),
        ("start", {"a": {}, "b": {}}, "at least 3 points"),
        ("objective.metrics", {"fidd": "lower"}, "did you mean 'fid'"),
        ("objective.metrics", {"fid": "higher"}, "lower is better"),
        ("objective.metrics", {"fid": "down"}, "higher, lower, zero"),
        ("objective.metrics", {}, "must be like"),
        ("objective.eval", "embeded", "did you mean 'embedded'?"),
        ("objective.options", {"kid.subset": 3}, "unknown option kid.subset"),
        ("objective.cost", "yes please", "must be true or false"),
        ("prune.after", [8, 4], "must rise"),
        ("prune.after", 1, "at least 2"),
        ("prune.beaten", 0, "share above 0"),
        ("sampler", {"kind": "random"}, "unknown key sampler.kind"),
        ("trials", -1, "trials=-1"),
    ],
)
def test_mistakes(read, place, value, line):
    content = copy.deepcopy(GOOD)
    *parents, key = place.split(".", 1)
    inner = content
    for parent in parents:
        inner = inner[parent]
    inner[key] = value
    with pytest.raises(RequestError) as error:
        read(content)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_search_is_told_with_the_known_ones():
    with pytest.raises(RequestError, match="did you mean 'direct'"):
        read_definition("dirct")
