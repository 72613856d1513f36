"""The records of real runs hold the keys that their types declare, and docs/records.md says what the types say."""

import importlib.util
import json
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from small import run

from sega.errors import FailedImageError
from sega.store.rows import FAILED_KEYS, ROW_KEYS
from sega.store.schema import BaseRecord, FailedRow, ImageRow, RunRecord, StepRow
from sega.store.step_files import KEYS, read_steps

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def made(line, tmp_path, monkeypatch, capsys):
    """Run a line; the folder of its cell."""

    def make(*words):
        run(monkeypatch, capsys, *line, "res=256", "prompts.limit=1", *words)
        (cell,) = (path.parent for path in (tmp_path / "runs").glob("*/*/*/*/run.json"))
        return cell

    return make


def rows(path):
    return [json.loads(text) for text in path.read_text().splitlines()]


def fits(record, kind):
    """Whether a record has the required keys of its type, no other ones than declared, and values of their types."""
    assert kind.__required_keys__ <= record.keys() <= kind.__required_keys__ | kind.__optional_keys__
    for key, hint in get_type_hints(kind).items():
        assert key not in record or _is(record[key], hint), (key, record[key])
    return True


def _is(value, hint):
    if hint is Any:
        return True
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_is(item, *get_args(hint)) for item in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(_is(item, get_args(hint)[1]) for item in value.values())
    if hasattr(hint, "__required_keys__"):
        return fits(value, hint)
    if get_args(hint):
        return any(_is(value, option) for option in get_args(hint))
    return isinstance(value, hint) or (hint is float and isinstance(value, int))


def test_records_of_an_image_with_all_that_is_recorded_of_its_steps(made):
    cell = made("method=sega", "record=[profiles,magnitudes,spectrum,attention]")
    (row,) = rows(cell / "images.jsonl")
    assert fits(row, ImageRow) and row.keys() == get_type_hints(ImageRow).keys() - {"full_calls"}  # of a cache
    record = json.loads((cell / "run.json").read_text())
    assert fits(record, RunRecord) and record.keys() == get_type_hints(RunRecord).keys()
    steps = rows(cell / next(name for name in row["steps"] if name.endswith(".jsonl")))
    assert steps and all(fits(step, StepRow) for step in steps)
    seen = {key for step in read_steps(cell / row["file"]) for key in step}
    assert seen == get_type_hints(StepRow).keys() - {"probe", "blocks"}


def test_a_plain_image_and_the_base_of_a_staged_method(made):
    cell = made("method=upsample")
    (row,) = rows(cell / "images.jsonl")
    assert fits(row, ImageRow) and row.keys() == ImageRow.__required_keys__
    (base,) = cell.parents[2].glob("base/*/*/base.json")
    record = json.loads(base.read_text())
    assert fits(record, BaseRecord) and record.keys() == get_type_hints(BaseRecord).keys()


def test_a_failed_image(made, monkeypatch):
    def fail(*_, **__):
        raise FailedImageError("the latent after stage 1 of 1 is not finite")

    monkeypatch.setattr("sega.engine.sampling.generate", fail)
    (row,) = rows(made("method=vanilla") / "failed.jsonl")
    assert fits(row, FailedRow) and row.keys() == get_type_hints(FailedRow).keys()


def test_a_measuring_call_says_so(made):
    cell = made("method=ultraimage", "method.steps=1", "record=[magnitudes]")
    (row,) = rows(cell / "images.jsonl")
    steps = read_steps(cell / row["file"])
    assert all(fits(step, StepRow) for step in steps) and any("probe" in step for step in steps)


def test_what_readers_ask_of_a_row_is_declared():
    assert ROW_KEYS <= ImageRow.__required_keys__ and FAILED_KEYS <= FailedRow.__required_keys__
    assert set(KEYS) == StepRow.__required_keys__


def test_the_page_says_what_the_types_say():
    spec = importlib.util.spec_from_file_location("records_page", ROOT / "scripts" / "records_page.py")
    records_page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(records_page)
    assert records_page.PAGE.read_text() == records_page.page(), "run python scripts/records_page.py"
