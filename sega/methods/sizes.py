"""Sizes of images: how they are written, and what a model can make."""

from __future__ import annotations

import re
from typing import Any

from sega.errors import RequestError

LARGEST = 32
"""The largest multiple of the training side in `res`; above it 128x would be taken for more than a slip of 128x128."""


def parse_size(res: Any, native: int, token_pixels: int, key: str = "res") -> tuple[int, int]:
    """Pixels (width, height) of `N`, `WxH`, or `Fx`: F times the training side, to the nearest whole token.

    null is the training size. Raises RequestError for anything else, and for multiples above LARGEST; `key` is what
    the message calls the value.
    """
    text = str(native if res is None else res).strip().lower()
    if is_multiple(text):
        factor = float(text[:-1])
        side = round(factor * native / token_pixels) * token_pixels if factor <= LARGEST else 0
        if side:
            return side, side
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not match or isinstance(res, bool):
        raise RequestError(
            f"{key}={res} must be N or WxH in pixels, such as {key}=512 or {key}=512x256, or a multiple of the "
            f"training size up to {LARGEST}x, such as {key}=2x"
        )
    return int(match[1]), int(match[2] or match[1])


def is_multiple(res: Any) -> bool:
    """Whether a size is written as a multiple of the training side, such as 2x or 1.5x."""
    return re.fullmatch(r"\d+(\.\d+)?x", str(res).strip().lower()) is not None


def check_size(size: tuple[int, int], token_pixels: int) -> None:
    """Refuse sides that are not a positive multiple of a token."""
    for side in size:
        if side < token_pixels or side % token_pixels:
            below = max(side // token_pixels, 1) * token_pixels
            raise RequestError(
                f"size {size[0]}x{size[1]} is not a multiple of {token_pixels} px, the size of a token; "
                f"nearest to {side} are {below} and {below + token_pixels}"
            )
