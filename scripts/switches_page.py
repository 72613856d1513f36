"""Write the pages and figures of what switches cost, from records of scripts/bench_switches.py.

    python scripts/switches_page.py                 # switches.json and switches-4x.json in results/benchmarks
    python scripts/switches_page.py /tmp/try/switches.json

It writes `.md` and `.png` beside each record, and without arguments the table of `speed=` in docs/speed.md.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.bench.switch_rows import LEAST, SCORES, Measured  # noqa: E402

RECORDS = [ROOT / "results" / "benchmarks" / name for name in ("switches.json", "switches-4x.json")]
PAGE = ROOT / "docs" / "speed.md"
PART = re.compile(r"(<!-- speeds -->\n).*?(<!-- end -->)", re.DOTALL)
KINDS = {
    "steps": "fewer steps",
    "cache": "step cache",
    "solver": "solver",
    "progressive": "smaller latent first",
    "late_attention": "windows late",
    "base": "shorter base",
    "weights": "weights in 8 or 4 bits",
    "rounding": "backend, compiled blocks",
    "pair": "several",
    "speed": "speed=",
}
MARKERS = dict(zip(KINDS, "osvDP<^*X*", strict=True))


def middle(psnr: list[float | None], pick: Any = statistics.median) -> float:
    return pick([math.inf if value is None else value for value in psnr])


def page(found: list[Measured], record: dict[str, Any]) -> str:
    """The record as Markdown."""
    packages, device = record["packages"], record.get("device", "a CPU")
    lines = [
        "# What the switches cost",
        "",
        f"`{record['command']}`",
        "",
        f"The small model in {record['dtype']} on {device}; torch {packages['torch']}, diffusers "
        f"{packages['diffusers']}; methods at their defaults, {record['steps']} steps where the switch names no other. "
        "Operations are counted and a share of the exact run's; no times were measured. PSNR is against the exact "
        "image of the same noise: median, and the lowest. Differences are minus the exact run, paired by caption, "
        f"with 95 % intervals; **bold** where the interval leaves out 0 on the worse side, from {LEAST} captions. With "
        "so few captions the intervals are wide: a switch within them may still cost something. These numbers show a "
        "property of the small model and its world only.",
    ]
    for group in dict.fromkeys(item.group for item in found):
        captions, size, method = group
        own = [item for item in found if item.group == group]
        lines += ["", f"## {method}, {size}, N = {own[0].images}, captions of seed {captions}", "", *table(own)]
    if record.get("missing"):
        lines += ["", "## Not measured", "", *(f"* {line}" for line in record["missing"])]
    return "\n".join(lines) + "\n"


HEAD = ("operations", "PSNR, dB", "attributes kept", "CLIP score", "FID (scorer)")


def table(items: list[Measured]) -> list[str]:
    """Lines of a table, the dearest first."""
    head = f"| switch | {' | '.join(HEAD)} |"
    return [head, "|---" * 6 + "|", *(_line(item) for item in sorted(items, key=lambda item: -item.share))]


def _line(item: Measured) -> str:
    return f"| {'exact' if not item.switch else f'`{item.switch}`'} | {' | '.join(_cells(item))} |"


def _cells(item: Measured) -> list[str]:
    if not item.switch:
        return ["1.00", "", *(_value(item, name) for name in SCORES)]
    cells = []
    for name, digits in SCORES.items():
        difference = item.differences[name]
        if difference is None:
            cells.append(_value(item, name))
            continue
        value, low, high = difference
        text = f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
        cells.append(f"**{text}**" if item.is_worse(name) else text)
    psnr = f"{middle(item.psnr):.1f} ({middle(item.psnr, min):.1f})".replace("inf", "equal")
    return [f"{item.share:.2f}", psnr, *cells]


def _value(item: Measured, name: str) -> str:
    value = item.values[name]
    return "" if value is None else f"{value:.{SCORES[name]}f}"


def speeds(found: list[Measured]) -> str:
    """The table of `speed=` for docs/speed.md, every group of captions and size."""
    first = found[0].captions
    lines = [f"| | captions | size | N | method | {' | '.join(HEAD)} |", "|---" * 10 + "|"]
    for item in sorted((item for item in found if item.kind == "speed"), key=lambda item: item.switch):
        captions = "those it was chosen on" if item.captions == first else "others"
        start = f"| `{item.switch}` | {captions} | {item.size} | {item.images} | {item.method} |"
        lines.append(f"{start} {' | '.join(_cells(item))} |")
    return "\n".join(lines) + "\n"


def figure(found: list[Measured]) -> Any:
    """Cost against quality: a row for each method and size, the exact run marked."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from eval.figures.palette import COLOURS
    from eval.metrics.registry import metrics

    colours = dict(zip(KINDS, COLOURS, strict=True))
    groups = list(dict.fromkeys(item.group for item in found))
    titles = ["PSNR to exact, dB", *(f"{metrics()[name].title}, minus exact" for name in SCORES)]
    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        drawing = Figure(figsize=(14, 2.7 * len(groups) + 0.8), layout="constrained")
        axes = drawing.subplots(len(groups), len(titles), squeeze=False)
        for line, group in zip(axes, groups, strict=True):
            for item in (item for item in found if item.group == group and item.switch):
                look = {"color": colours[item.kind], "marker": MARKERS[item.kind], "label": KINDS[item.kind]}
                look |= {"alpha": 0.9} | ({"s": 70, "zorder": 4} if item.kind == "speed" else {"s": 30})
                _point(line, item, look)
            for panel, title in zip(line, titles, strict=True):
                for share in (0.25, 0.5):
                    panel.axvline(share, color="#aaaaaa", linewidth=0.8, linestyle=":")
                panel.set_xlim(0.1, 1.1)
                if panel is not line[0]:
                    panel.axhline(0, color="#aaaaaa", linewidth=0.8)
                    panel.scatter(1, 0, color="black", marker="*", s=90, label="exact", zorder=3)
                panel.set_title(f"{group[2]}, {group[1]}: {title}", fontsize=8, loc="left")
        handles: dict[str, Any] = {}
        for panel in axes.ravel():
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        drawing.legend(handles.values(), handles, loc="outside lower center", ncols=11, frameon=False)
        for panel in axes[-1]:
            panel.set_xlabel("operations over those of the exact run", fontsize=8)
    return drawing


def _point(line: Any, item: Measured, look: dict[str, Any]) -> None:
    """A switch in the panels of its row."""
    between = middle(item.psnr)
    if between < math.inf:  # equal images have no place on the scale
        line[0].scatter(item.share, between, **look)
    for panel, name in zip(line[1:], SCORES, strict=True):
        value, low, high = item.differences[name] or (None, None, None)
        if value is not None:
            panel.vlines(item.share, low, high, color=look["color"], linewidth=0.9, alpha=0.5)
            panel.scatter(item.share, value, **look)


def read(path: Path) -> tuple[list[Measured], dict[str, Any]]:
    """The rows of a record, and the record."""
    record = json.loads(path.read_text())
    names = Measured.__dataclass_fields__
    return [Measured(**{key: row[key] for key in names}) for row in record["rows"]], record


def write(path: Path) -> list[Measured]:
    """Write the page and the figure of a record beside it, and return its rows."""
    found, record = read(path)
    path.with_suffix(".md").write_text(page(found, record))
    first = [item for item in found if item.captions == found[0].captions and item.method in ("vanilla", "sega")]
    figure(first).savefig(path.with_suffix(".png"), dpi=110, metadata={"Software": None})
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="*", type=Path)
    paths = parser.parse_args().records
    found = [item for path in paths or RECORDS for item in write(path)]
    if not paths:
        PAGE.write_text(PART.sub(lambda match: match[1] + speeds(found) + match[2], PAGE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
