"""Labels of the report's rows, and what an installed package holds."""

import json
from pathlib import Path

from eval.figures.palette import styles
from eval.records.rows import Row, label
from eval.records.runs import Run
from eval.report.tables import uneven
from sega.store.rows import read_rows

ROOT = Path(__file__).parents[3]


def row(method: str, n: int, size: int = 256) -> Row:
    run = Run(Path("x"), "tiny", method, size, size, f"hash{method}{n}", {"method": {"name": method}}, {}, [])
    return Row(run, "embedded", {"n": n, "metrics": {}, "damaged": []})


def test_true_renders_of_several_prompt_sets_are_told_apart_by_n():
    rows = [row("vanilla", 16), row("hiflow", 8), row("renders", 16), row("renders", 8), row("renders", 16, 128)]
    label(rows)
    names = ["vanilla", "hiflow", "true renders for N=16", "true renders for N=8", "true renders for N=16"]
    assert [r.label for r in rows] == names
    assert uneven(rows) and not uneven([rows[0], *rows[2:]])
    assert set(styles(rows)) == {"vanilla", "hiflow", "true renders"}


def test_sets_of_equal_n_are_told_apart_too():
    rows = [row("vanilla", 8), row("hiflow", 8), row("renders", 8), row("renders", 8)]
    rows[3].run.identity["captions"] = "others"
    label(rows)
    assert len({r.label for r in rows}) == 4 and all(r.label.startswith("true renders for N=8") for r in rows[2:])


def test_one_set_needs_no_n():
    rows = [row("vanilla", 8), row("renders", 8)]
    label(rows)
    assert rows[1].label == "true renders"


def test_a_line_separator_in_a_prompt_ends_no_row(tmp_path):
    (tmp_path / "rows").write_text(json.dumps({"prompt": "a\u2028b"}, ensure_ascii=False) + '\n{"prompt": \n')
    assert read_rows(tmp_path / "rows", ("prompt",)) == ([{"prompt": "a\u2028b"}], [2])
