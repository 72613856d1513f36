"""Find the scored rows of the entries of a plan, by what their images depend on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sega.errors import RequestError

from ..records.rows import Row, load_rows, richest
from .plan import Entry, Place, Plan

Rows = dict[str, dict[str, Row]]
"""Rows by place and label."""


def rows_of(plan: Plan, store: Path, cache: Path) -> Rows:
    """Return the row of each entry by place and label, labelled as in the plan. What was not made is left out."""
    found: Rows = {}
    for place in plan.places.values():
        folder = place.store(store)
        found[place.name] = {}
        if not any(folder.glob("*/*/*/*/scores.json")):
            continue
        rows = richest(load_rows(folder, cache)[0])
        known = {_key(row.run.identity): row for row in rows if not row.is_reference}
        own = {entry.label: known.get(key) for entry in plan.at(place) if (key := _wanted(plan, entry, place))}
        found[place.name] = {label: replace(row, label=label) for label, row in own.items() if row is not None}
    return found


def _wanted(plan: Plan, entry: Entry, place: Place) -> str | None:
    """The key of an entry at a place; None for one that can't be made here, such as of a model that is not there."""
    from sega.engine.noise import NOISE_VERSION
    from sega.run.cell import identity
    from sega.run.request import read_request

    try:
        (cell,) = read_request([*plan.words(entry, place), "dry_run=true"]).cells
    except RequestError:
        return None
    return _key(identity(cell, "", NOISE_VERSION))


def _key(identity: dict[str, Any]) -> str:
    """An identity as text, without the hash of the weights: they need not be here."""
    model = {key: value for key, value in (identity.get("model") or {}).items() if key != "weights"}
    return json.dumps(identity | {"model": model}, sort_keys=True)
