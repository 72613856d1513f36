"""Training of the embedded model and its scorer: `python -m sega.embedded.training`."""
