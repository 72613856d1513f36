"""Write docs/records.md from the types of the records: `python scripts/records_page.py`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import typing
from pathlib import Path
from types import ModuleType
from typing import Any, NotRequired

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "records.md"
sys.path.insert(0, str(ROOT))

HEAD = """# Records

This page lists every key of the files that runs and scoring write into a store, and of the
configuration of a cell, which `run.json` keeps. It is made from the files `schema.py` of
`sega/store`, `sega/loading`, `sega/run` and `eval/records` by `python scripts/records_page.py`.
Keys in *italics* are absent in some records; the text says when.

[sweeps.md](sweeps.md) describes where the files are and how damaged files are handled.
"""


def page() -> str:
    """The text of docs/records.md."""
    return HEAD + "".join(f"\n{table(record)}" for module in schemas() for record in records(module))


def schemas() -> list[ModuleType]:
    """The modules that hold the types of records, those that are there."""
    names = ("sega.store.schema", "sega.loading.schema", "sega.run.schema", "eval.records.schema")
    return [importlib.import_module(name) for name in names if importlib.util.find_spec(name)]


def records(module: ModuleType) -> list[type]:
    """The record types of a module, in the order they are written."""
    return [item for item in vars(module).values() if typing.is_typeddict(item) and item.__module__ == module.__name__]


def table(record: type) -> str:
    """Name, first sentence and keys of a record, as a section of Markdown."""
    lines = [f"## {record.__name__}", "", str(record.__doc__).strip(), "", "| key | type | meaning |", "|---|---|---|"]
    for name, hint in typing.get_type_hints(record, include_extras=True).items():
        optional = typing.get_origin(hint) is NotRequired
        kind, meaning = typing.get_args(typing.get_args(hint)[0] if optional else hint)
        name = f"*`{name}`*" if optional else f"`{name}`"
        lines.append(f"| {name} | `{_written(kind)}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _written(kind: Any) -> str:
    """A type as it is written in the source, with a bar that does not end the cell of a table."""
    text = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
    for module in ("sega.store.schema.", "sega.loading.schema.", "sega.run.schema.", "eval.records.schema.", "typing."):
        text = text.replace(module, "")
    return text.replace("None", "null").replace(" | ", " or ")


if __name__ == "__main__":
    PAGE.write_text(page())
