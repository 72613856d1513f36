"""List the rows of the papers with what runs them, or why nothing does: `python -m eval.published presets`."""

from __future__ import annotations

import re
import textwrap

from sega.home import CONF

from .values import Value, load

COST = re.compile(r"^# Cost: (.*)$", re.MULTILINE)


def family(preset: str) -> list[str]:
    """Return a preset and those of the same table that need other options, `<preset>_and_*`."""
    names = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
    return [name for name in names if name == preset or name.startswith(f"{preset}_and_")]


def rows() -> dict[tuple[str, str, str], dict[str, Value]]:
    """Return one value of each row, by (paper, table, model) and then by the printed name of the method."""
    found: dict[tuple[str, str, str], dict[str, Value]] = {}
    for value in load():
        found.setdefault((value.paper, value.table, value.model), {}).setdefault(value.printed, value)
    return found


def listing(width: int | None = None) -> str:
    """Return every table with its presets and their costs, the rows they run, and the others with the reason.

    Every line is wrapped to `width`, the columns of a terminal; without it, reasons to 112 and nothing else.
    """

    def item(name: str, text: str) -> list[str]:
        if width is None:
            return [(name + text).rstrip()]
        more = " " * (len(name) if len(name) < width // 2 else 6)
        return textwrap.wrap(text, width, initial_indent=name, subsequent_indent=more) or [name.rstrip()]

    parts, run, all_rows = [], 0, 0
    for (paper, table, model), group in rows().items():
        answers = {name: value.answer for name, value in group.items()}
        title = ", ".join([paper, *([] if table == "unknown" else [f"table {table}"]), model])
        lines = []
        presets = dict.fromkeys(answer.preset for answer in answers.values() if answer.preset)
        names = [name for preset in presets for name in family(preset)]
        space = 30 if width is None else max(map(len, names), default=0)
        for name in names:
            cost = COST.search((CONF / "experiment" / f"{name}.yaml").read_text())
            lines += item(f"    {name:{space}} ", cost[1] if cost else "")
        for name, answer in answers.items():
            if answer.run:
                give = "  (give these weights)" if "weights=" in answer.run else ""
                lines += item(f"  + {name:24} ", f"{answer.words}{give}")
        for why in dict.fromkeys(answer.why for answer in answers.values() if answer.why):
            these = ", ".join(name for name, answer in answers.items() if answer.why == why)
            lines += textwrap.wrap(f"{these}: {why}", width or 112, initial_indent="  - ", subsequent_indent="    ")
        run += sum(bool(answer.run) for answer in answers.values())
        all_rows += len(answers)
        parts.append("\n".join([title, *lines]))
    return "\n\n".join(parts) + f"\n\n{run} of {all_rows} rows run (+); the others say why not (-).\n"
