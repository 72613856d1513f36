"""Write the cost of every preset of a published table into its first lines, counted from its cells.

  python scripts/preset_costs.py          write what differs
  python scripts/preset_costs.py check    print what differs; exit status 1 if anything does

Cells are planned as for `dry_run=true`, with published values of the model, so nothing is loaded.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

FOLDER = ROOT / "conf" / "experiment"
COST = re.compile(r"^# Cost: .*$", re.MULTILINE)
CARD = "h100"


def presets() -> list[str]:
    """Return the names of the presets of published tables: those that state a cost."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if COST.search(path.read_text()))


def cost_line(name: str) -> str:
    """Return the line that a preset should have: images, operations, and hours on the card."""
    from sega.run.cost import image_cost, machine_of
    from sega.run.dryrun import published
    from sega.run.request import read_request

    text = (FOLDER / f"{name}.yaml").read_text()
    limit = int(re.search(r"limit: (\d+)", text)[1])
    with tempfile.TemporaryDirectory() as store:
        words = ["prompts=examples", "prompts.limit=1", "dry_run=true", f"device={CARD}", f"store={store}"]
        if "method.weights:" in text:  # they only have to be there
            weights = Path(store, "weights.pth")
            weights.touch()
            words += ["method=upsample", f"method.weights={weights}"]
        cells = read_request(["-m", f"experiment={name}", *words]).cells
    works = [image_cost(cell, published(cell.model)).work for cell in cells]
    operations = limit * sum(work.operations for work in works)
    seconds = limit * sum(machine_of(cell).seconds(work) for cell, work in zip(cells, works, strict=True))
    exa, hours = (f"{float(f'{value:.3g}'):g}" for value in (operations / 1e18, seconds / 3600))
    return f"# Cost: {limit * len(cells)} images, {exa} EFLOP, {hours} hours on an {CARD.upper()}"


def main(words: list[str]) -> int:
    if words not in ([], ["check"]):
        print(__doc__)
        return 2
    changed = 0
    for name in presets():
        path, line = FOLDER / f"{name}.yaml", cost_line(name)
        text = COST.sub(line, path.read_text())
        if text != path.read_text():
            changed += 1
            if not words:
                path.write_text(text)
            print(f"{path.relative_to(ROOT)} {'should have: ' + line if words else 'written'}")
    return int(bool(words and changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
