"""Write the recipes for 24, 48 and 80 GB into docs/checkpoints.md: `python scripts/memory_page.py`."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sega.loading.fits import CARDS, recipes  # noqa: E402
from sega.loading.memory import readable  # noqa: E402

PAGE = ROOT / "docs" / "checkpoints.md"
PART = re.compile(r"(<!-- memory -->\n).*?(<!-- end -->)", re.DOTALL)


def page() -> str:
    """The text of docs/checkpoints.md with recipes of today's plan."""
    return PART.sub(lambda found: found[1] + block() + found[2], PAGE.read_text())


def block() -> str:
    """Command lines, each with the peak that the plan expects."""
    lines = []
    for card in CARDS:
        lines.append(f"# {card} GB")
        for words, item in recipes(card):
            peak = readable(item.plan.estimate.needs(item.plan.mode))
            lines.append(f"{f'python run.py {words}':<84}# {peak}")
    return "\n".join(["```", *lines, "```", ""])


if __name__ == "__main__":
    PAGE.write_text(page())
