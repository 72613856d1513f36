"""Format tables as CSV, Markdown, or LaTeX with booktabs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

BOOKTABS = "% needs \\usepackage{booktabs}\n"


def csv_text(table: pandas.DataFrame) -> str:
    """Return a DataFrame as CSV, with every digit of a number, an empty field for a missing value, and no index."""
    return table.to_csv(index=False, lineterminator="\n")


def align(head: list[str], body: list[list[str]]) -> str:
    """Return a Markdown table with columns padded to equal widths."""
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in [head, *body]]
    widths = [max(len(line[k]) for line in escaped) for k in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in escaped]
    lines = ["| " + " | ".join(line) + " |" for line in padded]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def booktabs(head: list[str], body: list[list[str]], caption: str, left: int = 2) -> str:
    """Return a LaTeX table. `body` is LaTeX, `head` and `caption` are plain text.

    The first `left` columns are flush left. A rule separates rows with different first cells.
    """
    layout = "l" * left + "r" * (len(head) - left)
    lines = [
        r"\begin{table}",
        r"\centering\small",
        r"\begin{tabular}{" + layout + "}",
        r"\toprule",
        " & ".join(map(tex, head)) + r" \\",
        r"\midrule",
    ]
    previous = body[0][0] if body else ""
    for cells in body:
        if cells[0] != previous:
            lines.append(r"\midrule")
            previous = cells[0]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\caption{" + tex(caption) + "}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def tex(text: str) -> str:
    """Escape the special characters of LaTeX in plain text."""
    special = {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "–": "--",
    }
    return "".join(special.get(letter, letter) for letter in text)
