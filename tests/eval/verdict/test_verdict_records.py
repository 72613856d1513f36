"""The committed records of the search's test give the facts of the committed page."""

import json
import tarfile
from pathlib import Path

import pytest

from eval.verdict import command

SEARCH = Path(__file__).resolve().parents[3] / "results" / "search"
PLACES = ("2x again", "2x and 2x again")


def effects(path):
    """The differences at the places of the records, by question, place, pair and metric."""
    found = json.loads(path.read_text())["questions"]
    return {
        (asked["name"], finding["place"], effect["label"], effect["base"], effect["metric"]): effect
        for asked in found
        for finding in asked["findings"]
        if finding["place"] in PLACES
        for effect in finding["effects"]
    }


def test_the_page_can_be_made_from_the_records(tmp_path):
    for path in sorted((SEARCH / "records").glob("*.tar*")):
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path, filter="data")
    out = tmp_path / "out"
    out.mkdir()
    content = json.loads((SEARCH / "answers.json").read_text())
    for asked in content["questions"]:  # what the records have to say is not there before
        asked["findings"] = [finding for finding in asked["findings"] if finding["place"] not in PLACES]
    content["spots"] = [spot for spot in content["spots"] if spot["name"] not in PLACES]
    (out / "answers.json").write_text(json.dumps(content))
    words = [f"store={tmp_path / 'runs'}", f"cache={tmp_path / 'cache'}", f"out={out}"]
    assert command.main(["page", *words, f"winners={SEARCH / 'mix' / 'report' / 'winners.yaml'}"]) == 0
    made, known = effects(out / "answers.json"), effects(SEARCH / "answers.json")
    assert made.keys() == known.keys() and len(known) == 36
    for key, effect in known.items():
        assert made[key]["verdict"] == effect["verdict"], key
        for name in ("value", "low", "high"):
            assert made[key][name] == pytest.approx(effect[name], rel=1e-3, abs=1e-5), key
