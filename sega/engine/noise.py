"""The initial noise of an image depends on its seed, prompt and size only."""

from __future__ import annotations

import hashlib

NOISE_VERSION = "1"
"""Changes whenever the same (seed, prompt, size) would give other noise."""


def noise_seed(seed: int, prompt: str, size: tuple[int, int], purpose: str = "noise") -> int:
    """63 bits from a hash of the seed, the prompt and the size in pixels (width, height)."""
    text = f"sega-bench {purpose} {NOISE_VERSION}\n{seed}\n{size[0]}x{size[1]}\n{prompt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
