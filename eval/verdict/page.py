"""Write the answers as one HTML file."""

from __future__ import annotations

from .types import Answers


def html(answers: Answers, sheets: list[str]) -> str:
    """Return the page. `sheets` are names of contact sheets in images/."""
    return f"<!doctype html><title>{answers.captions}</title>"
