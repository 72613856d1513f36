"""Contact sheets of a test: one caption by all entries of a place."""

from __future__ import annotations

from pathlib import Path

from ..figures.crops import Crop
from ..figures.grid import sheet
from ..output.manifest import NothingError
from ..records.rows import Row
from .plan import Plan, file_name

CAPTIONS = 2
"""Sheets of a place: those of its first captions. They are not chosen."""


def write_sheets(plan: Plan, places: dict[str, list[Row]], out: Path) -> list[Path]:
    """Write a JPEG for each place and each of its first captions that all of its rows have. Returns their paths."""
    from sega.run.prompts import named

    made = []
    for place, rows in places.items():
        first = plan.places[place].first
        for number, caption in enumerate(plan.captions[first : first + CAPTIONS], 1):
            try:
                page = sheet(rows, Crop(), named(caption).id)
            except NothingError:
                continue
            path = out / f"sheet-{file_name(place)}-{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            page.save(path, quality=85)
            made.append(path)
    return made
