"""A method on a stock pipeline: attaching it, and generating one image with it."""
