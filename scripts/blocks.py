"""Parts of a Markdown page that a script writes: the text between `<!-- kind:name -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from collections.abc import Callable


def names(page: str, kind: str) -> list[str]:
    """The names of the parts of a kind, in the order of the page."""
    return re.findall(rf"^<!-- {kind}:(\w+) -->$", page, re.MULTILINE)


def filled(page: str, kind: str, make: Callable[[str], str]) -> str:
    """The page with the text of every part of a kind made anew, from its name."""
    block = re.compile(rf"^(<!-- {kind}:(\w+) -->\n).*?^(<!-- end -->)$", re.DOTALL | re.MULTILINE)
    return block.sub(lambda match: f"{match[1]}{make(match[2])}\n{match[3]}", page)
