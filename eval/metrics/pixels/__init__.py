"""Measures of pixels without learned weights."""
