"""From images to numbers: `python -m eval`."""
