"""Results of votes as Markdown and CSV."""

from __future__ import annotations

from ..output.markup import align, csv_text
from ..records.rows import EMBEDDED, is_embedded
from .summary import Interval, Result

EXPLANATION = """
Preference is the Bradley-Terry score in natural log odds, mean 0 over the methods of a table: a method whose score is
higher by 1.1 wins three of four comparisons. An equal vote is half a win of each. Each method has one added equal vote
against an average method, so that scores are finite. In brackets are {level} intervals: bootstrap over prompts, at
least as wide as the normal approximation. Wins are the mean over prompts, with a Wilson interval that takes a prompt
as one trial.
"""


def to_markdown(results: list[Result]) -> str:
    """Return a section for each model and size: methods, pairs of methods, agreement, and an explanation."""
    parts = []
    for result in results:
        votes, names = sum(result.raters.values()), ", ".join(f"{k} {n}" for k, n in result.raters.items())
        people = f"{len(result.raters)} rater{'' if len(result.raters) == 1 else 's'}"
        lines = [f"## {result.group[0]}, {result.group[1]}\n", f"{votes} votes of {people}: {names}.\n"]
        body = [
            [item.row.label, _score(item.score), _share(item.wins), str(item.votes), str(item.prompts)]
            for item in result.standings
        ]
        lines.append(align(["method", "preference (BT) ↑", "wins", "votes", "prompts"], body))
        pairs = [
            [item.row.label, item.other.label, _share(item.wins), str(item.votes), str(item.prompts)]
            for item in result.duels
        ]
        lines.append(align(["method", "against", "wins", "votes", "prompts"], pairs))
        lines.append(_agreement(result) + "\n")
        if not result.connected:
            lines.append(
                "Some methods are not connected by votes: between them, scores say nothing but the added equal vote.\n"
            )
        lines += [EMBEDDED + "\n"] if is_embedded([item.row for item in result.standings]) else []
        parts.append("\n".join(lines))
    level = f"{results[0].level:.0%}" if results else "95%"
    return "\n".join(parts) + EXPLANATION.format(level=level)


def _agreement(result: Result) -> str:
    if not result.shared:
        return "No pair of images was voted on by two raters, so their agreement is not known."
    value = "is not defined: all votes on shared pairs are ties" if result.alpha is None else f"{result.alpha:.2f}"
    return (
        f"Agreement, Krippendorff's alpha (interval; a tie is half-way, both orders of a pair): {value}; "
        f"{result.shared} pairs of images had several raters. 1 is full agreement, 0 is chance."
    )


def _score(interval: Interval) -> str:
    value, low, high = interval
    return f"{value:+.2f}" + ("" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]")


def _share(interval: Interval) -> str:
    value, low, high = interval
    return f"{value:.0%}" + ("" if low is None or high is None else f" [{low:.0%}, {high:.0%}]")


HEAD = ["model", "size", "method", "run"]


def methods_csv(results: list[Result]) -> str:
    """Return a row for each method."""
    import pandas

    body = [
        [*result.group, item.row.label, item.row.run.hash, *item.score, *item.wins, item.votes, item.prompts]
        for result in results
        for item in result.standings
    ]
    numbers = ["preference", "preference_low", "preference_high", "wins", "wins_low", "wins_high", "votes", "prompts"]
    return csv_text(pandas.DataFrame(body, columns=HEAD + numbers))


def pairs_csv(results: list[Result]) -> str:
    """Return a row for each pair of methods that was compared."""
    import pandas

    body = [
        [
            *(*result.group, item.row.label, item.row.run.hash, item.other.label, item.other.run.hash),
            *(*item.wins, item.votes, item.prompts),
        ]
        for result in results
        for item in result.duels
    ]
    numbers = ["against", "run_against", "wins", "wins_low", "wins_high", "votes", "prompts"]
    return csv_text(pandas.DataFrame(body, columns=HEAD + numbers))
