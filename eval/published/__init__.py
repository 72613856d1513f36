"""The values of the papers beside ours: `python -m eval.published`."""
