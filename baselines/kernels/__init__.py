"""Arithmetic of attention patterns, with no method in it."""
