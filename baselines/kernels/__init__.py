"""Attention patterns, super-resolution networks and the frequencies of `mix`, with no method in it."""
