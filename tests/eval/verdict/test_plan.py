"""The plan of the confirmatory test: fresh captions, entries that mean what they say, and errors in one line."""

import copy
import re
from pathlib import Path

import pytest
import yaml
from verdict_plan import PLAN, WINNERS, written

from eval.verdict import make
from eval.verdict.plan import captions, read_plan
from sega import load_method
from sega.embedded.captions import captions as of_seed
from sega.errors import RequestError
from sega.home import CONF
from sega.run.request import read_request

ROOT = Path(__file__).resolve().parents[3]
TEST, PAPER = CONF / "verdict" / "search.yaml", CONF / "verdict" / "paper.yaml"


@pytest.fixture(scope="module")
def plan():
    return read_plan(TEST)


def test_captions_are_fresh(plan):
    assert len(set(plan.captions)) == len(plan.captions) == 256
    for seed, count in yaml.safe_load(TEST.read_text())["captions"]["apart"]:
        assert not set(plan.captions) & set(of_seed(seed, count))


def test_every_stage_that_has_captions_is_kept_apart(plan):
    """The tables, the demo, the choices, the benchmarks of switches, and the searches."""
    seeds = {int(seed) for seed in re.findall(r"prompts\.seed=(\d+)", (ROOT / "Makefile").read_text())}
    seeds |= {int(seed) for page in ROOT.glob("results/benchmarks/*.md") for seed in _seeds(page)}
    seeds |= {yaml.safe_load((CONF / "prompts" / "embedded.yaml").read_text())["seed"]}
    searched = [yaml.safe_load(path.read_text())["fixed"] for path in sorted((CONF / "search").glob("*.yaml"))]
    seeds |= {fixed["prompts.seed"] for fixed in searched}
    assert len(seeds) > 3
    apart = {seed for seed, _ in yaml.safe_load(TEST.read_text())["captions"]["apart"]}
    assert seeds <= apart
    noise = {seed for fixed in searched for seed in [fixed["seeds"]] if isinstance(seed, int)} | {0, 900}
    assert not noise & set(plan.seeds)


def _seeds(page):
    return re.findall(r"prompts\.seed=(\d+)", page.read_text())


def test_captions_that_are_used_elsewhere_are_left_out_and_the_rest_stays_in_order():
    plain, fresh = of_seed(8001, 300), captions(8001, 256, [[11, 256]])
    assert set(plain) & set(of_seed(11, 256))
    assert list(fresh) == [caption for caption in dict.fromkeys(plain) if caption not in of_seed(11, 256)][:256]


@pytest.mark.parametrize("path", [TEST, PAPER])
def test_no_two_entries_of_a_place_make_the_same_images(path):
    own = read_plan(path)
    place = next(iter(own.places.values()))
    cells = [read_request([*own.words(e, place), "prompts.text=a", "dry_run=true"]).cells[0] for e in own.at(place)]
    made = {(cell.method, cell.stages[-1], cell.model["progressive"]) for cell in cells}
    assert len(made) == len(cells) > 8


def test_ablations_change_what_they_say_and_nothing_else(plan):
    """Positions of entries at 2x: frequencies and magnitudes of the methods they are made of."""

    def positions(label):
        name, *words = plan.entries[label].words
        method = load_method(name.partition("=")[2], "tiny", [word.removeprefix("method.") for word in words])
        found = method.positions((48, 48), 0.5)
        return found.height.frequencies, found.height.magnitudes

    for bare, whole in (("YaRN without magnitude", "yarn"), ("DyPE without magnitude", "dype")):
        assert positions(bare)[0].equal(positions(whole)[0])
        assert (positions(bare)[1] == 1).all() and (positions(whole)[1] > 1).all()
    both = positions("NTK with YaRN's magnitude")
    assert both[0].allclose(positions("ntk")[0]) and both[1].allclose(positions("yarn")[1])
    even, bare = positions("SEGA without spectrum"), positions("SEGA without magnitude")
    assert even[0].equal(bare[0]) and (even[1] > 1).all() and (bare[1] == 1).all()
    assert positions("SEGA on YaRN, without spectrum")[0].equal(positions("yarn")[0])


def test_the_winners_of_a_search_become_entries(tmp_path):
    found = read_plan(written(tmp_path, "plan", PLAN), [written(tmp_path, "winners", WINNERS)])
    assert [entry.words for entry in found.group("winners")] == [
        ("method=ntk", "method.schedule=stock"),
        ("method=dype", "method.base=ntk"),
    ]
    words = found.words(found.entries["direct-9"], found.places["wide"])
    assert (
        words == "model=tiny steps=2 model.dtype=float32 method=ntk method.schedule=stock res=256x192 seeds=[5]".split()
    )


def test_a_place_has_single_entries_words_and_captions_of_its_own(tmp_path):
    content = copy.deepcopy(PLAN)
    again = {"model": "tiny", "res": "256x192", "groups": ["core"], "entries": ["yarn"], "follows": "wide"}
    content["places"]["again"] = again | {"words": ["model.dtype=bfloat16", "steps=3"]}
    content["rounds"].append(["again", 6])
    found = read_plan(written(tmp_path, "plan", content))
    place = found.places["again"]
    assert [entry.label for entry in found.at(place)] == ["yarn", "even"]
    words = found.words(found.entries["yarn"], place)
    assert words == "model=tiny steps=3 model.dtype=bfloat16 method=yarn res=256x192 seeds=[5]".split()
    assert found.words(found.entries["yarn"], found.places["wide"])[1:3] == ["steps=2", "model.dtype=float32"]
    assert "wide: 3 entries x 4 captions" in (lines := make.cost(found, "h100"))[0]
    assert "again: 2 entries x 2 captions" in lines[2]


def test_captions_of_a_file(tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("a lighthouse\na boat\n")
    content = PLAN | {"captions": None, "rounds": [["wide", 2]]}
    assert read_plan(written(tmp_path, "plan", content), (), file).captions == ("a lighthouse", "a boat")
    bare = read_plan(written(tmp_path, "plan", content))
    with pytest.raises(RequestError, match="captions=<"):
        make.write_captions(bare, make.Setting(tmp_path / "a" / "runs", "cpu", 1, 0.0, tmp_path))


def _followed_to_its_end(plan):
    plan["rounds"].pop()
    plan["places"]["elsewhere"]["follows"] = "wide"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda plan: plan["rounds"].append(["wid", 4]), "a round is at 'wid', which is no place; did you mean 'wide'"),
        (lambda plan: plan["rounds"].append(["wide", 7]), "a round has 7 captions, of 6"),
        (_followed_to_its_end, "ends at caption 2, and the place begins at 2"),
        (lambda plan: plan["places"]["wide"].update(follows="wid"), "follows 'wid', which is no place; did you mean"),
        (lambda plan: plan["places"]["wide"].update(entries=["yarm"]), "'yarm', which is no entry; did you mean"),
        (lambda plan: plan["questions"]["frequencies"]["pairs"].append(["even", "odd"]), "'odd', which is no entry"),
        (lambda plan: plan["entries"]["core"].update(yarn="method=pi"), "two entries have the label 'yarn'"),
        (lambda plan: plan["places"]["wide"]["groups"].append("fields"), "group 'fields'"),
        (lambda plan: plan.pop("seeds"), "is no plan of a test: KeyError 'seeds'"),
    ],
)
def test_what_does_not_fit_together_is_said(tmp_path, change, words):
    content = copy.deepcopy(PLAN)
    change(content)
    with pytest.raises(RequestError, match=words):
        read_plan(written(tmp_path, "plan", content))


def test_the_cost_in_the_plan_for_large_models_is_the_counted_one():
    assert f"# Cost: {make.cost(read_plan(PAPER), 'h100')[-1].partition(';')[0]} (" in PAPER.read_text()


def test_a_model_that_is_not_here_is_left_out_of_the_cost(tmp_path):
    lines = make.cost(read_plan(written(tmp_path, "plan", PLAN)), "h100")
    assert [line.partition(":")[0] for line in lines] == ["wide", "elsewhere", "12 images"]
    assert "left out: unknown model 'absent'" in lines[1]
