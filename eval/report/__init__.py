"""Tables, comparisons and the summary: `python -m eval.report`."""
