"""Detect failed generations (latents with NaN or of one value, images of one colour) before they are stored."""

from __future__ import annotations

from torch import Tensor

from sega.errors import FailedImageError


def check_latent(latent: Tensor, when: str) -> None:
    """Raises FailedImageError for a latent (any shape) that is not finite, or the same everywhere."""
    low, high = (value.item() for value in latent.float().aminmax())
    if not (abs(low) < float("inf") and abs(high) < float("inf")):  # NaN compares as false
        share = (~latent.isfinite()).float().mean().item()
        raise FailedImageError(f"the latent {when} is not finite ({share:.1%} of its values)")
    if low == high:
        raise FailedImageError(f"the latent {when} is {low:g} everywhere")


def check_image(image) -> None:
    """Raises FailedImageError for a PIL image of one colour; NaN in a decoder comes out as black."""
    bands = image.getextrema()
    bands = bands if isinstance(bands[0], tuple) else (bands,)
    if all(low == high for low, high in bands):
        colour = tuple(low for low, _ in bands)
        raise FailedImageError("the image is black" if not any(colour) else f"the image is {colour} everywhere")
