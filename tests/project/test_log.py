"""The log of negative results: numbers are those of records, quotations are in their files, dates are of commits."""

import csv
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOG = (ROOT / "docs" / "log.md").read_text()
NUMBER = r"[+-]?\d+(?:\.\d+)?"


@dataclass
class Entry:
    title: str
    date: str = ""
    commit: str = ""
    prose: str = ""
    records: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    words: list[tuple[str, str]] = field(default_factory=list)
    again: list[str] = field(default_factory=list)


def parse(text):
    """The entries of a log. A line that is none of the known kinds fails."""
    entries = []
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        entry = Entry(title)
        prose = []
        for line in body.splitlines():
            if line.startswith("- record: "):
                path, keys, values = re.fullmatch(r"- record: `(.+?)` (.*?): (.*)", line).groups()
                keys = dict(key.split("=", 1) for key in keys.split("; "))
                entry.records.append((path, keys, dict(value.split("=", 1) for value in values.split(" "))))
            elif line.startswith("- words: "):
                entry.words.append(re.fullmatch(r'- words: `(.+?)`: "(.*)"', line).groups())
            elif line.startswith("- again: "):
                entry.again.append(re.fullmatch(r"- again: `(.*)`", line)[1])
            else:
                assert not line.startswith("- "), line
                prose.append(line)
        dated = re.match(r"\*(\d{4}-\d\d-\d\d), commit `([0-9a-f]{7})`\.\* ", "\n".join(prose))
        assert dated, title
        entry.date, entry.commit = dated.groups()
        entry.prose = " ".join("\n".join(prose)[dated.end() :].split())
        entries.append(entry)
    return entries


def found(path, keys):
    """The one row of a table with these values; a value that ends in … is the start of a longer one."""
    with (ROOT / path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    for key, value in keys.items():
        start = value.removesuffix("…")
        rows = [row for row in rows if (row[key].startswith(start) if start != value else row[key] == value)]
    assert len(rows) == 1, (path, keys, len(rows))
    return rows[0]


def rounded(value, like):
    """A number with the digits, and the plus sign if any, of a printed one."""
    return f"{float(value):{'+' if like.startswith('+') else ''}.{len(like.partition('.')[2])}f}"


def uncited(entry):
    """The numbers of the prose that no record and no quotation of the entry has."""
    known = {value for _, _, values in entry.records for value in values.values()}
    known |= {number for _, words in entry.words for number in re.findall(NUMBER, words)}
    known |= {number.lstrip("+-") for number in known}
    prose = re.sub(r"`[^`]*`", "", entry.prose)  # names and settings
    prose = re.sub(rf"\b{NUMBER}(x\b| px\b)", "", prose)  # sizes
    prose = re.sub(r"out 0\b|from 0\b|contains 0\b", "", prose)
    return [number for number in re.findall(rf"(?<![\w.]){NUMBER}(?![\w])", prose) if number not in known]


def git(*words):
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


ENTRIES = parse(LOG)
each = pytest.mark.parametrize("entry", ENTRIES, ids=[entry.title for entry in ENTRIES])


@each
def test_every_number_is_that_of_its_record(entry):
    assert entry.records or entry.words
    for path, keys, values in entry.records:
        row = found(path, keys)
        for column, printed in values.items():
            number = re.fullmatch(NUMBER, printed)
            assert (rounded(row[column], printed) if number else row[column]) == printed, (path, keys, column)
    assert uncited(entry) == []


@each
def test_every_quotation_is_in_its_file(entry):
    for place, words in entry.words:
        if place.startswith("commit "):
            text = git("log", "-1", "--format=%B", place.removeprefix("commit "))
        elif re.match("[0-9a-f]{7}:", place):
            text = git("show", place)
        else:
            text = (ROOT / place).read_text()
        if text is None:
            pytest.skip(f"{place} is not in this clone")
        assert " ".join(words.split()) in " ".join(text.split()), (place, words)


@each
def test_every_date_is_that_of_its_commit(entry):
    date = git("log", "-1", "--format=%ad", "--date=short", entry.commit)
    if date is None:
        pytest.skip("the commit is not in this clone")
    assert date.strip() == entry.date


def test_the_newest_is_first():
    dates = [entry.date for entry in ENTRIES]
    assert len(dates) > 15 and dates == sorted(dates, reverse=True)


@each
def test_every_command_can_be_run(entry):
    from sega.run.request import read_request

    assert entry.again
    for command in entry.again:
        tool, *words = re.sub("'", "", command).split()
        if tool == "make":
            assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        elif words[0] == "run.py":
            assert read_request(words[1:]).cells
        else:
            assert tool == "python" and (ROOT / words[0]).is_file()


def test_a_number_changed_by_hand_is_noticed():
    entry = next(item for item in ENTRIES if "UltraImage's direct mode" in item.title)
    (changed,) = parse(f"## x\n*{entry.date}, commit `{entry.commit}`.* {entry.prose.replace('0.62', '0.63')}\n")
    changed.records = entry.records
    assert uncited(changed) == ["0.63"]
    assert rounded(found(*entry.records[0][:2])["attribute_accuracy"], "0.63") == "0.62"
