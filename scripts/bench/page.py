"""The record of scripts/bench_gpu.py as a page, beside what was measured before."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean, median
from typing import Any

from scripts.bench.common import head_lines
from scripts.bench.plan import STOCK

Row = dict[str, Any]
GB = 2**20 / 1e9
"""Of a MB of 2^20 bytes."""


def page(record: dict[str, Any], earlier: dict[str, Any], later: dict[str, Any] | None = None) -> str:
    """The whole page, a later run behind the first; parts that were not run are missing from it."""
    lines = ["# On a GPU", "", *_run(record, earlier)]
    if later:
        added = [f"#{line}" if line.startswith("## ") else line for line in _run(later, _as_earlier(record))]
        lines += ["", "## A later run", "", *added]
    return "\n".join(lines).rstrip() + "\n"


def _run(record: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    parts = record["parts"]
    lines = [*head_lines(record), ""]
    writers: dict[str, Callable[[dict[str, Any], dict[str, Any]], list[str]]] = {
        "flux": _flux,
        "memory": _memory,
        "images": _images,
        "waits": _waits,
        "rate": _rate,
    }
    for name, write in writers.items():
        if name in parts and parts[name]["rows"]:
            lines += [*write(parts[name], earlier), ""]
    return lines + _missing(parts)


def _as_earlier(record: dict[str, Any]) -> dict[str, Any]:
    """A record as what was measured before another."""
    flux = record["parts"]["flux"]
    cases = {(row["size"], row["case"]) for row in flux["rows"] if "blocks" not in row}
    seconds = [
        {"size": size, "method": "vanilla" if case == STOCK else case, "seconds": _seconds(flux["rows"], size, case)}
        for size, case in sorted(cases)
    ]
    where = f"the run above, {record['device']}."
    return {"flux": seconds, "peak_rate": flux["product_rate"], "conditions": where, "images": where}


def _seconds(rows: list[Row], size: int, case: str) -> float:
    """The median step of a case."""
    same = [row for row in rows if (row["size"], row["case"]) == (size, case) and "blocks" not in row]
    return median(taken for row in same for taken in row["steps"].values())


def _table(columns: str, rows: list[list[Any]]) -> list[str]:
    names = columns.split(" | ")
    lines = [names, ["---"] * len(names), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def _flux(part: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    rows = part["rows"]
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        if "blocks" not in row:
            groups.setdefault((row["size"], row["case"]), []).append(row)
    before = {(row["size"], row["method"]): row["seconds"] for row in earlier["flux"]}
    lines = [
        "## A step of FLUX's transformer",
        "",
        f"Random weights, {part['parameters'] / 1e9:.4g} billion parameters, {part['text_tokens']} text tokens, "
        "batch 1, in the stock pipeline; `plain` is the pipeline without the engine. Staged methods are in their last "
        "stage. Seconds are those of a step, by events; a ratio is that of a turn to the plain turns beside it: their "
        "median, and the range of several. `no blocks` is a step that embeds the latent and makes the rotary tables. "
        f"The share is that of the operations of dense attention, of a product rate of "
        f"{part['product_rate'] / 1e12:.3g} TFLOP/s. The estimate is that of the memory plan without its margin.",
        "",
        *_table(
            "px | case | s a step | of plain | share | first, s | no blocks, ms | peak GB | estimate GB | earlier, s",
            [_line(key, group, part, before) for key, group in sorted(groups.items(), key=lambda item: item[0][0])],
        ),
    ]
    for row in rows:
        lines += _detail(row)
    rate = earlier["peak_rate"] / 1e12
    return [*lines, "", f"Earlier, at a product rate of {rate:.3g} TFLOP/s: {earlier['conditions']}"]


def _line(
    key: tuple[int, str], group: list[Row], part: dict[str, Any], before: dict[tuple[int, str], float]
) -> list[str]:
    (size, case), rows = key, part["rows"]
    seconds = _seconds(rows, size, case)
    share = group[0]["flops"] / seconds / part["product_rate"]
    first = [taken for row in group for taken in row["first"]]
    idle = [row["idle"] for row in group if row["idle"]]
    old = before.get((size, "vanilla" if case == STOCK else case))
    return [
        str(size),
        case,
        f"{seconds:.4g}",
        "1" if case == STOCK else _ratio([value for row in group if (value := of_plain(row, rows))]),
        f"{share:.0%}",
        f"{first[0]:.3g}" if first else "",
        f"{1000 * median(idle):.1f}" if idle else "",
        f"{max(row['peak_mb'] for row in group) * GB:.1f}",
        f"{group[0]['estimate_mb'] * GB:.1f}",
        f"{old:.4g}" if old else "",
    ]


def of_plain(row: Row, rows: list[Row]) -> float | None:
    """The seconds of a turn over those of the plain turns of its size before and after it; None without any."""
    place, plain = rows.index(row), []
    for others in (rows[:place][::-1], rows[place + 1 :]):
        plain += [other for other in others if (other["case"], other["size"]) == (STOCK, row["size"])][:1]
    if not plain:
        return None
    return mean(row["steps"].values()) / mean(mean(other["steps"].values()) for other in plain)


def _ratio(values: list[float]) -> str:
    if not values:
        return ""
    text = f"{median(values):.3f}"
    return text if len(values) == 1 else f"{text} ({min(values):.3f} to {max(values):.3f})"


def _detail(row: Row) -> list[str]:
    """What the table can't say of a turn."""
    what = f"{row['case']} at {row['size']} px"
    if "probe" in row:
        return ["", f"{what}: the measuring pass before the first step takes {row['probe']:.3g} s."]
    if "blocks" in row:
        most = max(row["blocks"].values())
        whole, left = (
            [row["steps"][step] for step, ran in row["blocks"].items() if (ran == most) is same and step != "0"]
            for same in (True, False)
        )
        if not whole or not left:
            return []
        return [
            "",
            f"{what}: a whole step takes {median(whole):.3g} s, one that is left out {median(left):.3g} s, "
            f"{median(left) / median(whole):.1%} of it.",
        ]
    if len(row["steps"]) > 2:
        return ["", f"{what}: " + ", ".join(f"{taken:.3g} s in step {k}" for k, taken in row["steps"].items()) + "."]
    return []


def _memory(part: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    rows, weights = part["rows"], part["weights_mb"]
    plain = next((row["peak_mb"] for row in rows if row["case"] == STOCK), None)

    def line(row: Row) -> list[str]:
        beyond = (row["peak_mb"] - weights) * GB
        ratio = (row["peak_mb"] - weights) / (plain - weights) if plain else None
        measuring = f"{row['probe']:.3g}" if "probe" in row else ""
        return [row["case"], f"{beyond:.2f}", f"{ratio:.2f}" if ratio else "", measuring]

    return [
        f"## Memory of a step at {part['size']} px",
        "",
        f"The peak beyond the weights, in a transformer with two blocks, one of each kind; the plan estimates "
        f"{(rows[0]['estimate_mb'] - weights) * GB:.2f} GB. The measuring pass is that of two blocks too.",
        "",
        *_table("case | GB | of plain | measuring pass, s", [line(row) for row in rows]),
    ]


def _images(part: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    return [
        "## The same images",
        "",
        f"The small model in float32 at {part['size']}, {part['steps']} steps, against the CPU's image of the same "
        "noise: differences in grey levels of 255. Products are not rounded to TF32.",
        "",
        *_table(
            "method | largest | mean | values that differ",
            [[row["name"], row["max"], f"{row['mean']:.4f}", f"{row['differ']:.2%}"] for row in part["rows"]],
        ),
        "",
        f"Earlier: {earlier['images']}",
    ]


def _waits(part: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    return [
        "## What a step waits for",
        "",
        "Operations in a step of the small model after which the CPU waits for the GPU, as torch's debug mode of "
        "synchronisation counts them; the first two steps, in which tables are made, are left out.",
        "",
        *_table(
            "method | waits a step | where",
            [
                [row["name"], f"{row['waits']:g}", ", ".join(f"`{line}` {n:g}" for line, n in row["lines"].items())]
                for row in part["rows"]
            ],
        ),
    ]


def _rate(part: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    return [
        "## Images a second",
        "",
        f"`run.py {part['line']}`, each process with a store of its own; without the start of the processes, which "
        f"took {part['start_seconds']:.0f} s until all had made an image.",
        "",
        *_table(
            "processes | images a second | images | seconds",
            [
                [row["processes"], f"{row['images_a_second']:.2f}", row["images"], f"{row['seconds']:g}"]
                for row in part["rows"]
            ],
        ),
    ]


def _missing(parts: dict[str, Any]) -> list[str]:
    """What was left out or failed, with the last line of each traceback."""
    found = []
    for name, part in parts.items():
        found += [f"* {name}, {what}: {why}" for what, why in part["left_out"].items()]
        found += [f"* {name}, {what} failed: `{why.strip().splitlines()[-1]}`" for what, why in part["failed"].items()]
    return ["## Left out", "", *found] if found else []
