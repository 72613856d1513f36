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


def listing() -> str:
    """Return every table with its presets and their costs, the rows they run, and the others with the reason."""
    parts, run, all_rows = [], 0, 0
    for (paper, table, model), group in rows().items():
        answers = {name: value.answer for name, value in group.items()}
        title = ", ".join([paper, *([] if table == "unknown" else [f"table {table}"]), model])
        lines = []
        for preset in dict.fromkeys(answer.preset for answer in answers.values() if answer.preset):
            for name in family(preset):
                cost = COST.search((CONF / "experiment" / f"{name}.yaml").read_text())
                lines.append(f"    {name:30} {cost[1] if cost else ''}")
        for name, answer in answers.items():
            if answer.run:
                give = "  (give these weights)" if "weights=" in answer.run else ""
                lines.append(f"  + {name:24} {answer.words}{give}")
        for why in dict.fromkeys(answer.why for answer in answers.values() if answer.why):
            names = ", ".join(name for name, answer in answers.items() if answer.why == why)
            lines += textwrap.wrap(f"{names}: {why}", 112, initial_indent="  - ", subsequent_indent="    ")
        run += sum(bool(answer.run) for answer in answers.values())
        all_rows += len(answers)
        parts.append("\n".join([title, *lines]))
    return "\n\n".join(parts) + f"\n\n{run} of {all_rows} rows run (+); the others say why not (-).\n"
