"""Measure what each switch for speed costs in quality: one command, resumable.

    python scripts/bench_switches.py                                  # the small model at 2x, 16 captions
    python scripts/bench_switches.py --sizes 4x --counts 4 --switches "steps=14 model.cache=sea:0.3" --stem fast-4x

The images of SEGA and of the plain model are made exactly and with every switch from the same noise, by run.py into
--store, and scored by `python -m eval`; what is there is not made again. Differences to the exact run are paired by
caption (eval.report.compare). Operations are counted: a call without blocks costs what lies outside of them. It writes
`switches.md`, `.json` and, of several switches, `.png` to --out, or --stem in place of that name. The captions are
those of no other table.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.bench.common import head  # noqa: E402

METHODS = ("vanilla", "sega")
EXACT = ""
SWITCHES = (
    "steps=14",
    "steps=10",
    *(f"model.cache=first_block:{value}" for value in ("0.1", "0.15", "0.2")),
    *(f"model.cache=taylorseer:{value}" for value in ("2", "3")),
    *(f"model.cache=sea:{value}" for value in ("0.25", "0.3", "0.35", "0.4")),
    *(f"steps=14 model.cache={cache}" for cache in ("first_block:0.15", "taylorseer:2", "sea:0.3")),
)
SCORES = ("attribute_accuracy", "clip_score", "fid")
LEAST = 6
"""Captions below which there is no verdict, as in the report."""
CAPTIONS = 29
"""`prompts.seed`: not that of the demo (0) or of the reference (11)."""


@dataclass(frozen=True)
class Measured:
    """A switch on a method at a size, against the exact run."""

    size: str
    method: str
    switch: str
    images: int
    calls: float
    share: float  # of the operations of the exact run
    psnr: list[float | None]  # of each image against the exact one, dB; None where they are equal
    values: dict[str, float]  # of each score
    differences: dict[str, tuple[float, float, float] | None]  # minus exact, with its 95 % interval

    @property
    def within(self) -> bool:
        """Whether no score is worse than exact beyond its interval; not known, so False, with few images."""
        return self.images >= LEAST and not any(map(self.is_worse, self.differences))

    def is_worse(self, score: str) -> bool:
        """Whether the interval of a score leaves out 0 on the worse side."""
        if self.differences[score] is None or self.images < LEAST:
            return False
        _, low, high = self.differences[score]
        return low > 0 if score == "fid" else high < 0


def make(options: argparse.Namespace) -> None:
    """Make and score the images that are missing. Raises SystemExit where a command fails."""
    from eval.hooks import HOOKS
    from eval.scoring.command import main as score
    from sega.run.cli import main as run

    common = ["-m", "model=tiny", f"model.dtype={options.dtype}", f"method={','.join(METHODS)}", "device=cpu"]
    for size, count in zip(options.sizes, options.counts, strict=True):
        for switch in options.switches:
            prompts = [f"prompts.seed={options.captions}", f"prompts.count={count}", f"store={options.store / 'runs'}"]
            status = run([*common, f"res={size}", *prompts, *switch.split()], HOOKS)
            if status:
                raise SystemExit(status)
    status = score([f"store={options.store / 'runs'}", f"cache={options.store / 'cache'}"])
    if status:
        raise SystemExit(status)


def measure(options: argparse.Namespace) -> list[Measured]:
    """Compare the runs of the store with the exact ones."""
    from eval.records.rows import load_rows
    from eval.report.compare import Comparison
    from sega.loading.known import model_config
    from sega.methods.sizes import parse_size

    model, found = model_config("tiny"), []
    rows, _ = load_rows(options.store / "runs", options.store / "cache")
    compare = Comparison(options.store / "cache")
    places = {(row.size, row.run.method, *_switch(row.run.identity)): row for row in rows if not row.is_reference}
    for size in options.sizes:
        width, height = parse_size(size, model["native"], model["geometry"]["token_pixels"], "size")
        for method in METHODS:
            place = f"{width}x{height}", method
            base = places[*place, model["steps"], None]
            for switch in options.switches:
                words = dict(word.split("=") for word in switch.split())
                row = places[*place, int(words.get("steps", model["steps"])), words.get("model.cache")]
                found.append(_measured(size, switch, row, base, compare))
    return found


def _switch(identity: dict[str, Any]) -> tuple[int, str | None]:
    return identity["steps"], identity["model"].get("cache")


def _measured(size: str, switch: str, row: Any, base: Any, compare: Any) -> Measured:
    cost, exact = row.block["cost"], base.block["cost"]
    pairs = {name: compare.pair(row, base, name).difference if switch else None for name in SCORES}
    return Measured(
        size,
        row.run.method,
        switch,
        row.block["n"],
        cost["calls"],
        cost.get("full_calls", cost["calls"]) / exact["calls"],
        [_psnr(image.path, base.images[key].path) for key, image in row.images.items()] if switch else [],
        {name: row.cell(name)["value"] for name in SCORES},
        {name: (d.value, d.low, d.high) if d and d.low is not None else None for name, d in pairs.items()},
    )


def _psnr(one: Path, other: Path) -> float | None:
    import numpy as np
    from PIL import Image

    a, b = (np.asarray(Image.open(path).convert("RGB"), np.float64) for path in (one, other))
    error = float(np.square(a - b).mean())
    return 10 * math.log10(255**2 / error) if error else None


def _middle(psnr: list[float | None], pick: Any = statistics.median) -> float:
    return pick([math.inf if value is None else value for value in psnr])


def table(found: list[Measured], record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    packages = record["packages"]
    lines = [
        "# What the switches cost",
        "",
        f"`{record['command']}`",
        "",
        f"The small model in {record['dtype']} on a CPU; torch {packages['torch']}, diffusers {packages['diffusers']}; "
        "the plain model and SEGA at their defaults, 20 steps where the switch names no other. Operations are counted "
        "and a share of the exact run's; no times were measured. PSNR is against the exact image of the same noise: "
        f"median, and the lowest. The captions are prompts.seed={record['captions']}. Differences are minus the exact "
        "run, paired by caption, with 95 % intervals; **bold** where the interval leaves out 0 on the worse side, from "
        f"{LEAST} captions. With so few captions the intervals are wide: a switch "
        "within them may still cost something. These numbers show a property of the small model and its world only.",
    ]
    for size in dict.fromkeys(item.size for item in found):
        for method in METHODS:
            own = [item for item in found if (item.size, item.method) == (size, method)]
            lines += [
                "",
                f"## {method}, {size}, N = {own[0].images}",
                "",
                "| switch | operations | PSNR, dB | attributes kept | CLIP score | FID (scorer) |",
                "|---|---|---|---|---|---|",
                *(_line(item) for item in sorted(own, key=lambda item: -item.share)),
            ]
    return "\n".join(lines) + "\n"


def _line(item: Measured) -> str:
    if not item.switch:
        values = " | ".join(f"{item.values[name]:.{digits}f}" for name, digits in zip(SCORES, (3, 2, 2), strict=True))
        return f"| exact | 1.00 |  | {values} |"
    cells = []
    for name, digits in zip(SCORES, (3, 2, 2), strict=True):
        difference = item.differences[name]
        if difference is None:
            cells.append(f"{item.values[name]:.{digits}f}")
            continue
        value, low, high = difference
        text = f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
        cells.append(f"**{text}**" if item.is_worse(name) else text)
    psnr = f"{_middle(item.psnr):.1f} ({_middle(item.psnr, min):.1f})".replace("inf", "equal")
    return f"| `{item.switch}` | {item.share:.2f} | {psnr} | {' | '.join(cells)} |"


KINDS = (("steps", "o"), ("first_block", "s"), ("taylorseer", "^"), ("sea", "D"))


def figure(found: list[Measured]) -> Any:
    """Cost against quality: a row for each method and size, the exact run marked."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from eval.figures.scores import COLOURS
    from eval.metrics.registry import metrics

    groups = list(dict.fromkeys((item.size, item.method) for item in found))
    titles = ["PSNR to exact, dB", *(f"{metrics()[name].title}, minus exact" for name in SCORES)]
    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        drawing = Figure(figsize=(14, 2.7 * len(groups) + 0.6), layout="constrained")
        axes = drawing.subplots(len(groups), len(titles), squeeze=False)
        for line, group in zip(axes, groups, strict=True):
            for item in (item for item in found if (item.size, item.method) == group and item.switch):
                look = _look(item.switch, COLOURS)
                middle = _middle(item.psnr)
                if middle < math.inf:  # equal images have no place on the scale
                    line[0].scatter(item.share, middle, **look)
                for panel, name in zip(line[1:], SCORES, strict=True):
                    value, low, high = item.differences[name] or (None, None, None)
                    if value is not None:
                        panel.vlines(item.share, low, high, color=look["color"], linewidth=0.9, alpha=0.6)
                        panel.scatter(item.share, value, **look)
            for panel, title in zip(line, titles, strict=True):
                panel.axvline(0.5, color="#aaaaaa", linewidth=0.8, linestyle=":")
                panel.set_xlim(0.3, 1.05)
                if panel is not line[0]:
                    panel.axhline(0, color="#aaaaaa", linewidth=0.8)
                    panel.scatter(1, 0, color="black", marker="*", s=90, label="exact", zorder=3)
                panel.set_title(f"{group[1]}, {group[0]}: {title}", fontsize=8, loc="left")
        handles: dict[str, Any] = {}
        for panel in axes.ravel():
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        drawing.legend(handles.values(), handles, loc="outside lower center", ncols=9, frameon=False)
        for panel in axes[-1]:
            panel.set_xlabel("operations over those of the exact run", fontsize=8)
    return drawing


def _look(switch: str, colours: tuple[str, ...]) -> dict[str, Any]:
    """Marker and colour of a switch; pairs are hollow."""
    cache = switch.partition("model.cache=")[2].partition(":")[0]
    kind = cache or "steps"
    place = [name for name, _ in KINDS].index(kind)
    pair = "steps=" in switch and bool(cache)
    look = {"color": colours[place], "marker": KINDS[place][1], "s": 32, "alpha": 0.9}
    label = "fewer steps" if not cache else f"{kind} and 14 steps" if pair else kind
    return look | {"label": label} | ({"facecolors": "none"} if pair else {})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["2x"])
    parser.add_argument("--counts", nargs="+", type=int, default=[16], help="captions at each size")
    parser.add_argument("--captions", type=int, default=CAPTIONS, help="prompts.seed of the captions")
    parser.add_argument("--switches", nargs="+", default=list(SWITCHES), help="words of run.py; the exact run is added")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--store", type=Path, default=ROOT / "results" / "cache" / "switches")
    parser.add_argument("--stem", default="switches", help="name of the files")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    options = parser.parse_args()
    if len(options.sizes) != len(options.counts):
        parser.error("give --counts one number for each of --sizes")
    options.switches = list(dict.fromkeys([EXACT, *options.switches]))
    return options


def main() -> int:
    options = arguments()
    make(options)
    found = measure(options)
    record = {
        **head("bench_switches.py", _public(sys.argv[1:]), "cpu", options.dtype),
        "captions": options.captions,
        "rows": [asdict(item) | {"within": item.within} for item in found],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / options.stem
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    text = table(found, record)
    stem.with_suffix(".md").write_text(text)
    if len(options.switches) > 2:
        figure(found).savefig(stem.with_suffix(".png"), dpi=110, metadata={"Software": None})
    print(text)
    return 0


def _public(words: list[str]) -> list[str]:
    """The words of the command without the folders of this machine."""
    kept = list(words)
    for name in ("--store", "--out"):
        if name in kept:
            del kept[kept.index(name) : kept.index(name) + 2]
    return kept


if __name__ == "__main__":
    sys.exit(main())
