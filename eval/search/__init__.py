"""Search over the keys of methods: `python -m eval.search`."""
