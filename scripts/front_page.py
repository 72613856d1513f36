"""Write the images and the numbers of the README from records: `python scripts/front_page.py [store=...] [parts=...]`.

  store    results/embedded/runs   images of the reference (make reference); without them parts=numbers still works
  parts    images,numbers        docs/images/*.jpg, and the blocks of README.md between <!-- numbers:... --> marks

The images are of the first prompts of the reference; they are not chosen. `tests/project/test_front_page.py` checks
that the numbers in the README are those of the committed records.
"""

from __future__ import annotations

import csv
import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eval.output.numbers import with_interval
from eval.records.runs import Run, find_runs
from scripts import blocks
from sega.embedded.model import NATIVE
from sega.errors import RequestError
from sega.methods.registry import METHODS

ROOT = Path(__file__).resolve().parent.parent
README, IMAGES = ROOT / "README.md", ROOT / "docs" / "images"
REFERENCE = ROOT / "results" / "embedded"
WIDTH = 120  # of text in the README
SEED = 11  # of the reference's prompts
SHOWN = 3  # prompts of the front image
ROWS = (("plain", "vanilla"), ("SEGA", "sega"), ("HiFlow", "hiflow"))  # a direct and a staged method


# ---------------------------------------------------------------------------------------------------------- images


def images_of(runs: list[Run], method: str, factor: int) -> dict[str, Path]:
    """Return the image files by prompt, of a method with default parameters at a multiple of the training side."""
    from sega import load_method

    wanted = json.loads(json.dumps({"name": method, **load_method(method, "tiny").identity()}))
    for run in runs:
        if run.identity["method"] == wanted and (run.width, run.height) == (factor * NATIVE, factor * NATIVE):
            return {image.prompt: image.path for image in run.images}
    raise RequestError(f"the store has no {method} at {factor}x with default parameters; make it with `make reference`")


def front(runs: list[Run], cell: int = 200):
    """Draw a row for each of ROWS: the first prompts of the reference at 2x, and the same at 4x."""
    from PIL import Image

    from eval.figures.text import write
    from sega.embedded.world import prompts

    chosen, gap, left, top = prompts(SEED, SHOWN), 4, 74, 26
    factors = (2, 4)
    width = left + len(factors) * (SHOWN * (cell + gap) + 12)
    sheet = Image.new("RGB", (width, top + len(ROWS) * (cell + gap)), "white")
    for b, factor in enumerate(factors):
        x0 = left + b * (SHOWN * (cell + gap) + 12)
        write(sheet, (x0, 4), f"{factor}x: {factor * NATIVE} px", SHOWN * cell, 15)
        for r, (label, method) in enumerate(ROWS):
            y = top + r * (cell + gap)
            write(sheet, (6, y + cell // 2 - 8), label, left - 8, 17)
            files = images_of(runs, method, factor)
            for k, prompt in enumerate(chosen):
                with Image.open(files[prompt]) as image:
                    sheet.paste(
                        image.convert("RGB").resize((cell, cell), Image.Resampling.LANCZOS), (x0 + k * (cell + gap), y)
                    )
    return sheet


def images(store: Path) -> list[Path]:
    """Write the front image and a thumbnail for each method. Returns the files."""
    from PIL import Image

    from sega.embedded.world import prompts

    runs = find_runs(store)
    IMAGES.mkdir(parents=True, exist_ok=True)
    front(runs).save(IMAGES / "front.jpg", quality=88, optimize=True)
    first = prompts(SEED, 1)[0]
    for method in METHODS:
        shown = "vanilla" if method == "mix" else method  # the defaults of mix are the plain model
        with Image.open(images_of(runs, shown, 2)[first]) as image:
            small = image.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS)
        small.save(IMAGES / f"method-{method}.jpg", quality=88, optimize=True)
    return [IMAGES / "front.jpg", *(IMAGES / f"method-{method}.jpg" for method in METHODS)]


# ----------------------------------------------------------------------------------------------------------- numbers


def table(name: str) -> list[dict[str, str]]:
    """Return the rows of a committed table of the reference, such as report/table."""
    with (REFERENCE / f"{name}.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["protocol"] == "embedded"]


def value(row: dict[str, str], metric: str, digits: int) -> str:
    """Return a value of the table in the format of the report, "" if there is none."""
    cell = {
        key: float(row[name]) if row.get(name) else None
        for key, name in (("value", metric), ("low", f"{metric}_low"), ("high", f"{metric}_high"))
    }
    return "" if cell["value"] is None else with_interval(cell, digits)


def reference_table(factor: int) -> str:
    """What the reference says of each method at a size, true renders first."""
    rows = [row for row in table("report/table") if row["width"] == row["height"] == str(factor * NATIVE)]
    n = max((int(row["n"]) for row in rows), default=0)
    rows = [row for row in rows if int(row["n"]) == n]  # renders are of the captions of one n
    columns = (
        ("attributes kept", "attribute_accuracy", 2),
        ("FID (scorer)", "fid", 1),
        ("spectrum, dB", "spectrum_distance", 1),
        ("high frequencies, dB", "high_frequency", 1),
    )
    lines = [
        "| method | N | " + " | ".join(title for title, _, _ in columns) + " | calls |",
        "|---|---|" + "---|" * (len(columns) + 1),
    ]
    for row in rows:
        cells = [value(row, metric, digits) for _, metric, digits in columns]
        calls = f"{float(row['calls']):.0f}" if row["calls"] else ""
        lines.append(f"| {row['method']} | {row['n']} | " + " | ".join(cells) + f" | {calls} |")
    return "\n".join(lines)


def card_line() -> str:
    """Return the quality of the embedded model, from its card."""
    model = json.loads((REFERENCE / "card.json").read_text())["model"]
    made, real = model["generated"]["mean"], model["rendered"]["mean"]
    return textwrap.fill(
        f"At its native size the model draws {made:.3f} of what the captions say; the scorer reads {real:.3f} from "
        f"true renders (mean of six attributes, N = {model['images']}). FID on the scorer's features is "
        f"{model['fid']:.2f}, that of two sets of renders {model['fid_of_renders']:.2f}.",
        WIDTH,
    )


def clone_line() -> str:
    """Return the times of a fresh clone."""
    path = ROOT / "results" / "fresh-clone.json"
    if not path.exists():
        return "What a fresh clone takes has not been recorded yet (`python scripts/fresh_clone.py`)."
    record = json.loads(path.read_text())
    tests, install, demo, test = record["tests"], *(record[f"{step}_seconds"] for step in ("install", "demo", "test"))
    return textwrap.fill(
        f"On a fresh clone and {record['cores']} CPU cores the installation took {_minutes(install)} (it makes "
        f"`.venv`; activate it, or write `.venv/bin/python`), `make demo` then {_minutes(demo)} in "
        f"{record['demo_dtype']}, again {record['again_seconds']:.0f} s, and `make test` {_minutes(test)} "
        f"({tests['passed']} tests passed, {tests['skipped']} skipped).",
        WIDTH,
    )


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def sega_table() -> str:
    """Return a table of each option of SEGA minus its defaults, on the same captions and noise."""
    columns = (
        ("attributes kept", "attribute_accuracy", 3),
        ("CLIP score", "clip_score", 2),
        ("FID (scorer)", "fid", 2),
        ("spectrum, dB", "spectrum_distance", 2),
        ("high frequencies, dB", "high_frequency", 2),
    )
    size = f"{2 * NATIVE}x{2 * NATIVE}"
    found: dict[str, dict[str, dict[str, str]]] = {}
    for row in table("sega/report/paired"):
        if (row["size"], row["base"]) == (size, "sega"):
            found.setdefault(row["method"], {})[row["metric"]] = row
    if not found:
        raise RequestError(f"the reference has no variants of SEGA at {size}; run `make reference`")
    lines = ["| minus `sega` | N | " + " | ".join(title for title, _, _ in columns) + " |"]
    lines.append("|---|---|" + "---|" * len(columns))
    for label, metrics in found.items():
        cells = []
        for _, metric, digits in columns:
            row = metrics.get(metric)  # no FID where a variant has other captions than the defaults
            if row is None:
                cells.append("")
                continue
            middle, low, high = (f"{float(row[key]):+.{digits}f}" for key in ("difference", "low", "high"))
            text = f"{middle} [{low}, {high}]"
            cells.append(f"**{text}**" if row["verdict"] else text)
        counts = [int(row["n"]) for row in metrics.values()]
        # A variant settles other keys, which the label names too.
        short = label.split(",")[0] + ")" if "variant=" in label else label
        lines.append(f"| `{short}` | {max(counts)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[], str]] = {
    "clone": clone_line,
    "card": card_line,
    "table2x": lambda: reference_table(2),
    "table4x": lambda: reference_table(4),
    "sega": sega_table,
}


def filled(text: str) -> str:
    """Return the README with every block made from the records."""
    unknown = [name for name in blocks.names(text, "numbers") if name not in BLOCKS]
    if unknown:
        raise RequestError(f"README.md names the block {unknown[0]}; there are {', '.join(BLOCKS)}")
    return blocks.filled(text, "numbers", lambda name: BLOCKS[name]())


def main(words: list[str]) -> int:
    options: dict[str, Any] = {"store": str(REFERENCE / "runs"), "parts": "images,numbers"}
    for word in words:
        key, _, given = word.partition("=")
        if key not in options or not given:
            raise RequestError(f"can't read {word!r}; options are store=<folder> and parts=images,numbers")
        options[key] = given
    if "images" in options["parts"]:
        for path in images(Path(options["store"])):
            print(path.relative_to(ROOT))
    if "numbers" in options["parts"]:
        README.write_text(filled(README.read_text()))
        print("README.md")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (RequestError, FileNotFoundError) as error:
        print(f"front_page.py: {error}", file=sys.stderr)
        sys.exit(2)
