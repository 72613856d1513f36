"""Attention patterns and super-resolution networks, with no method in it."""
