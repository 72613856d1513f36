"""Contact sheets of a test: one caption by all entries of a place."""

from __future__ import annotations

from pathlib import Path

from ..figures.crops import Crop
from ..figures.grid import sheet
from ..output.manifest import NothingError
from ..records.rows import Row
from .plan import file_name

CAPTIONS = 2
"""Sheets of a place: those of the first captions of the test. They are not chosen."""


def write_sheets(places: dict[str, list[Row]], captions: tuple[str, ...], out: Path) -> list[Path]:
    """Write a JPEG for each place and each of the first captions that all of its rows have. Returns their paths."""
    from sega.run.prompts import named

    made = []
    for place, rows in places.items():
        for number, caption in enumerate(captions[:CAPTIONS], 1):
            try:
                page = sheet(rows, Crop(), named(caption).id)
            except NothingError:
                continue
            path = out / f"sheet-{file_name(place)}-{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            page.save(path, quality=85)
            made.append(path)
    return made
