"""Votes of people or of a model judge on pairs of images: `python -m eval.votes`."""
