"""The committed answer page is that of its records, which are those of the reference; a clone can open it."""

import csv
import re
from pathlib import Path

import pytest

from eval.answer import page, text
from eval.answer.types import read

ROOT = Path(__file__).parents[2]
ANSWER = ROOT / "results" / "answer"
AGAIN = "run `rm results/answer/index.html; make answer` where results/embedded/runs are"


@pytest.fixture(scope="module")
def answer():
    return read(ANSWER / "answer.json")


def test_the_page_is_made_of_its_records(answer):
    there = {path.stem for path in (ANSWER / "images").glob("*.jpg")}
    assert (ANSWER / "index.html").read_text() == page.html(answer, there), AGAIN
    assert (ANSWER / "answer.md").read_text() == text.markdown(answer), AGAIN


def test_its_values_are_those_of_the_reference(answer):
    with (ROOT / "results" / "embedded" / "report" / "table.csv").open() as file:
        scored = [row for row in csv.DictReader(file) if row["protocol"] == "embedded"]
    rows = {(f"{row['width']}x{row['height']}", row["method"], row["n"]): row for row in scored}
    made = [(section, method) for section in answer.sections for method in section.methods]
    assert len(made) == len(rows) > 100, AGAIN
    for section, method in made:
        row = rows[section.size, method.label, str(method.n)]
        assert row["run"] == method.run
        for name, score in method.scores.items():
            assert score["value"] == pytest.approx(float(row[name]), rel=1e-5, abs=1e-9), (section.size, method.label)


def test_its_images_are_there_and_small(answer):
    names = {method.image for section in answer.sections for method in section.methods if method.drawn}
    assert names and all((ANSWER / "images" / f"{name}{end}.jpg").is_file() for name in names for end in ("", "-part"))
    assert sum(path.stat().st_size for path in (ANSWER / "images").iterdir()) < 1_000_000
    assert sum(path.stat().st_size for path in ANSWER.rglob("*") if path.is_file()) < 2_000_000


def test_it_names_no_path_of_a_machine(answer):
    for name in ("index.html", "answer.md", "answer.json"):
        assert not re.search(r"(?<![\w.<])/(home|work|tmp|root|Users)/", (ANSWER / name).read_text())
