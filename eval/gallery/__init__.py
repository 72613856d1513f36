"""A folder of HTML that opens from disk: `python -m eval.gallery`."""
