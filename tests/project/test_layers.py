"""Which module may import which: rooms look down only, and no modules import each other in a circle."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from import_graph import ASIDE, LAYERS, circles, forbidden, read_graph, room  # noqa: E402


@pytest.fixture(scope="module")
def graph():
    return read_graph(ROOT)


def test_every_module_has_a_room(graph):
    assert [name for name in graph if room(name) not in (*LAYERS, *ASIDE)] == []


def test_no_modules_import_each_other_in_a_circle(graph):
    assert circles(graph) == []


def test_rooms_look_down_only(graph):
    assert forbidden(graph) == []


def test_sega_never_imports_eval(graph):
    found = [(name, other) for name in graph for other in graph[name] if room(other) == "eval"]
    assert [arrow for arrow in found if room(arrow[0]) != "eval"] == []


def test_methods_never_import_the_engine(graph):
    methods = [name for name in graph if room(name) in ("sega.methods", "baselines")]
    assert len(methods) > 15
    assert [(name, other) for name in methods for other in graph[name] if room(other) == "sega.engine"] == []


@pytest.fixture
def small(tmp_path):
    """A checkout whose modules say what they import."""

    def write(**modules):
        for name, text in modules.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return read_graph(tmp_path)

    return write


def test_every_kind_of_import_is_read(small):
    found = small(
        sega__errors="",
        sega__store__files="import sega.errors\nimport os",
        sega__store__rows="def read():\n    from .files import digest\n    from ..errors import near",
        sega__run__cell="from sega.store import files, rows",
        sega__run__cli="if TYPE_CHECKING:\n    from . import cell\nelse:\n    import sega.store.rows",
    )
    assert found["sega.store.files"] == {"sega.errors"}
    assert found["sega.store.rows"] == {"sega.errors", "sega.store.files"}
    assert found["sega.run.cell"] == {"sega.store.files", "sega.store.rows"}
    assert found["sega.run.cli"] == {"sega.store.rows"}
    assert circles(found) == forbidden(found) == []


def test_circles_and_imports_from_above_are_found(small):
    found = small(
        sega__store__a="from sega.store import b",
        sega__store__b="from sega.store import c",
        sega__store__c="def later():\n    import sega.store.a\n    import eval.report",
        sega__embedded__world="import sega.run.cell",
        sega__run__cell="from sega.embedded import world",
        baselines__pi="import sega.run.cell",
        eval__report="",
        eval__main="import sega.run.cell",
    )
    assert circles(found) == [
        ["sega.embedded.world", "sega.run.cell"],
        ["sega.store.a", "sega.store.b", "sega.store.c"],
    ]
    assert forbidden(found) == [
        ("baselines.pi", "sega.run.cell"),
        ("sega.embedded.world", "sega.run.cell"),
        ("sega.store.c", "eval.report"),
    ]
