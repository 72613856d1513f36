"""Pairs of images for a judge outside: a CSV that `eval.votes.read` reads once its winners are filled in."""

from __future__ import annotations

import random
from itertools import combinations

from ..output.markup import csv_text
from ..records.rows import Row


def pairs(rows: list[Row], count: int, seed: int, against: str | None = None) -> str:
    """Return at most `count` pairs as CSV, with the paths of both images and the prompt.

    Every two methods come once before any come twice; which image is `a` is random. `against` keeps the pairs of one
    method. Equal images and true renders are left out.
    """
    import pandas

    draw = random.Random(seed)
    groups: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        if row.run.width and not row.is_reference:
            groups.setdefault((row.run.model, row.size), {}).setdefault(row.run.hash, row)
    found = []
    for group, held in groups.items():
        for one, two in combinations(held.values(), 2):
            if against and against not in (one.label, two.label, one.run.method, two.run.method):
                continue
            first, second = one.images, two.images
            keys = [key for key in first if key in second and first[key].sha != second[key].sha]
            draw.shuffle(keys)
            for turn, key in enumerate(keys):
                a, b = draw.sample([(one, first[key]), (two, second[key])], 2)
                about = [*group, *key, first[key].prompt or "", str(a[1].path), str(b[1].path)]
                found.append((turn, draw.random(), [*about, a[0].run.hash, b[0].run.hash, "", ""]))
    found.sort(key=lambda item: item[:2])
    head = ["model", "size", "prompt_id", "seed", "prompt", "image_a", "image_b", "run_a", "run_b", "winner", "rater"]
    return csv_text(pandas.DataFrame([row for *_, row in found[:count]], columns=head))
