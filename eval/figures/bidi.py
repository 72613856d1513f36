"""The order in which characters of left-to-right and right-to-left scripts are shown: levels of Unicode's UAX #9.

Explicit embeddings (rules X1 to X8) and paired brackets (N0) are left out: a prompt is one paragraph without them.
python-bidi returns the reordered text and not its levels, which pieces in several fonts are joined and shaped by.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TypeVar
from unicodedata import bidirectional

Item = TypeVar("Item")
NEUTRAL = ("B", "S", "WS", "ON", "BN")
SIDE = {"L": "L", "R": "R", "AL": "R", "EN": "R", "AN": "R"}
"""Direction of a type beside neutral characters (N1)."""


def base_level(text: str) -> int:
    """Return 1 if the first character with a direction is of a right-to-left script, else 0 (rules P2, P3)."""
    kinds = (bidirectional(c) for c in text)
    return int(next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L")


def levels(text: str, base: int) -> list[int]:
    """Return the level of each character of a line; odd levels run right to left."""
    kinds = _numbers([bidirectional(c) or "ON" for c in text], "R" if base else "L")
    _neutrals(kinds, "R" if base else "L")
    if base:
        found = [1 if kind == "R" else 2 for kind in kinds]
    else:
        found = [{"L": 0, "R": 1}.get(kind, 2) for kind in kinds]
    end = len(text.rstrip())
    return found[:end] + [base] * (len(text) - end)  # L1


def _numbers(kinds: list[str], start: str) -> list[str]:
    """Apply rules W1 to W7, on marks and numbers."""
    strong, before = start, start
    for k, kind in enumerate(kinds):
        kind = before if kind == "NSM" else "AN" if kind == "EN" and strong == "AL" else kind
        strong = kind if kind in ("L", "R", "AL") else strong
        kinds[k] = before = kind
    for k in range(1, len(kinds) - 1):
        one, other = kinds[k - 1], kinds[k + 1]
        if one == other and (one == "EN" and kinds[k] in ("ES", "CS") or one == "AN" and kinds[k] == "CS"):
            kinds[k] = one
    k = 0
    for kind, run in groupby(list(kinds)):
        end = k + len(list(run))
        if kind == "ET" and "EN" in (*kinds[max(k - 1, 0) : k], *kinds[end : end + 1]):
            kinds[k:end] = ["EN"] * (end - k)
        k = end
    strong = start
    for k, kind in enumerate(kinds):
        strong = kind if kind in ("L", "R", "AL") else strong
        plain = {"AL": "R", "ES": "ON", "ET": "ON", "CS": "ON"}.get(kind, kind)
        kinds[k] = "L" if kind == "EN" and strong == "L" else plain
    return kinds


def _neutrals(kinds: list[str], base: str) -> None:
    """Apply rules N1 and N2: neutral characters go with both neighbours if these agree, else with the paragraph."""
    k = 0
    for is_neutral, run in groupby([kind in NEUTRAL for kind in kinds]):
        end = k + len(list(run))
        if is_neutral:
            left = SIDE[kinds[k - 1]] if k else base
            right = SIDE[kinds[end]] if end < len(kinds) else base
            kinds[k:end] = [left if left == right else base] * (end - k)
        k = end


def in_order(items: Sequence[tuple[int, Item]]) -> list[Item]:
    """Return items with their levels in the order in which they are shown, from the left (rule L2)."""
    found = list(items)
    odd = [level for level, _ in found if level % 2]
    for least in range(max((level for level, _ in found), default=0), min(odd, default=0) - 1, -1):
        if not odd:
            break
        shown: list[tuple[int, Item]] = []
        for inside, run in groupby(found, key=lambda item: item[0] >= least):
            shown += list(run)[:: -1 if inside else 1]
        found = shown
    return [item for _, item in found]
