"""Figures from records: `python -m eval.figures`."""
