"""Rows of records: what is one, and what is not taken for one."""

import json

import pytest

from sega.store.rows import ROW_KEYS, parse, read_rows

ROW = {"file": "p-0.png", "sha256": "ab", "prompt_id": "p", "prompt": "a ball", "seed": 0}


def line(**changes):
    return json.dumps(ROW | changes).encode()


def test_a_row_is_read_whatever_stands_in_its_prompt():
    assert parse(line(), ROW_KEYS) == ROW
    for prompt in ("a\u2028b\x85c", "\U0001f600", '"quoted"', ""):
        assert parse(line(prompt=prompt), ROW_KEYS)["prompt"] == prompt
        text = json.dumps(ROW | {"prompt": prompt}, ensure_ascii=False).encode()
        assert parse(text, ROW_KEYS)["prompt"] == prompt


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{half",
        b"5",
        b"null",
        b"[1]",
        b'{"file": "p-0.png"}',
        b"[" * 100_000,
        b"9" * 100_000,
        line()[:-1] + b"\xff}",
        line(seed="0"),
        line(seed=True),
        line(seed=None),
        line(prompt=5),
        line(sha256=None),
        line(file=["a"]),
        line(file="../p-0.png"),
        line(file="/tmp/p-0.png"),
        line(file="a/b.png"),
        line(file="a\\b.png"),
        line(file=".."),
        line(file="."),
        line(file=""),
        line(file=".hidden.png"),
        line(file="a\0b"),
        line(file="a" * 300),
        line(prompt="\ud800"),
        line(file="\ud800.png"),
        line(more="\udfff"),
    ],
    ids=lambda value: value[-40:].decode(errors="replace"),
)
def test_what_is_no_row(bad, tmp_path):
    assert parse(bad, ROW_KEYS) is None
    (tmp_path / "rows").write_bytes(line() + b"\n" + bad + b"\n\n" + line(seed=1) + b"\r\n")
    rows, damaged = read_rows(tmp_path / "rows", ROW_KEYS)
    assert [row["seed"] for row in rows] == [0, 1] and damaged == ([2] if bad else [])


def test_no_file_has_no_rows(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "file" / "rows"):
        assert read_rows(path, ROW_KEYS) == ([], [])
