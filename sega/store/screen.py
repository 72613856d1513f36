"""Tables that fit the terminal they are printed on."""

from __future__ import annotations

import os
import shutil
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import TextIO

NARROW = 12
"""Columns below which a cell is not wrapped further: then the columns of a table stand below each other."""


def columns(text: str) -> int:
    """Columns a text takes: two for a wide character, none for a mark that combines."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def room(stream: TextIO) -> int | None:
    """Columns of the terminal a stream writes to; None if it writes to a file or a pipe."""
    return size(stream) if stream.isatty() else None


def size(stream: TextIO) -> int:
    """Columns of the terminal of a stream as it is now, of any size it may have been brought to."""
    try:
        found = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):  # no terminal behind it, as in tests
        found = 0
    return found or shutil.get_terminal_size().columns


def table(
    head: Sequence[str], body: Sequence[Sequence[str]], width: int | None, keys: int = 1, least: Sequence[str] = ()
) -> str:
    """Return a table with two spaces between columns, at most `width` wide; as wide as it is for None.

    Columns without any content go first, then those of `least` in this order, then the widest cells are wrapped. If
    that is not enough, the columns stand in blocks below each other, each with the first `keys` columns, or fewer
    of them on a narrow screen.
    """
    chosen = list(range(len(head)))
    if width is not None:
        chosen = [k for k in chosen if k < keys or any(line[k] for line in body)]
    widths = {k: max(columns(line[k]) for line in [head, *body]) for k in chosen}
    if width is None:
        return _block(head, body, widths)
    for name in least:
        if _total(widths) > width:
            widths.pop(list(head).index(name), None)
    while _total(widths) > width and max(widths.values()) > NARROW:
        widest = max(widths, key=lambda k: widths[k])
        widths[widest] -= 1
    while keys > 1 and _total({k: widths[k] for k in list(widths)[:keys]}) + 2 + NARROW > width:
        keys -= 1
    blocks, first = [], {k: widths[k] for k in list(widths)[:keys]}
    block = dict(first)
    for k in list(widths)[keys:]:
        if len(block) > keys and _total(block | {k: widths[k]}) > width:
            blocks.append(block)
            block = dict(first)
        block[k] = widths[k]
    return "\n".join(_block(head, body, block) for block in [*blocks, block])


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + 2 * (len(widths) - 1)


def _block(head: Sequence[str], body: Sequence[Sequence[str]], widths: dict[int, int]) -> str:
    """The chosen columns, each cell wrapped to the width of its column."""
    lines = []
    for row in [head, *body]:
        cells = {
            k: textwrap.wrap(row[k], width) if columns(row[k]) > width else [row[k]] for k, width in widths.items()
        }
        for place in range(max(map(len, cells.values()))):
            words = [(cells[k][place] if place < len(cells[k]) else "", width) for k, width in widths.items()]
            lines.append("  ".join(word + " " * (width - columns(word)) for word, width in words).rstrip())
    return "\n".join(lines) + "\n"
