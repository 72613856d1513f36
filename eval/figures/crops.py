"""Choose the place of a magnified crop: where the images of the methods differ most, or where most detail is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sega.errors import RequestError, near

from .. import options

if TYPE_CHECKING:
    from PIL import Image

SIDE = 0.2
COVERED = 0.43
"""Side of the magnified crop over the square root of the area of the image."""
RULES = {
    "differ": (96, "where the images of the methods differ most (variance, at {side} px)"),
    "detail": (256, "where the images of the methods have most detail (Sobel energy, at {side} px)"),
}
"""Rules by name: the longer side of the copies on which they are computed, and what is written under the figure."""


class Crop(NamedTuple):
    """How a crop is chosen: a rule or "fixed", the side as a fraction of the shorter side, and the fixed centre."""

    rule: str = "differ"
    side: float = SIDE
    centre: tuple[float, float] = (0.5, 0.5)

    @classmethod
    def read(cls, found: dict[str, str], key: str) -> Crop:
        """Read `differ`, `detail`, either with a side after a comma, or `x,y,side`. Others raise RequestError."""
        rule, _, side = str(found[key]).partition(",")
        if rule.isidentifier():
            if rule not in RULES:
                raise RequestError(f"{key}={rule} is not {', '.join(RULES)} or x,y,side{near(rule, RULES)}")
            crop = cls(rule, *(options.fractions({key: side}, key, "side") if side else ()))
        else:
            x, y, fixed = options.fractions(found, key, "x,y,side")
            crop = cls("fixed", fixed, (x, y))
        if crop.side == 0:
            raise RequestError(f"{key}: the side of the crop must be larger than 0")
        return crop

    @property
    def sentence(self) -> str:
        """What is written under the figure."""
        if self.rule == "fixed":
            return f"crop: the same place in all images, {self.side:g} of the shorter side"
        longest, where = RULES[self.rule]
        return (
            f"crop: {where.format(side=longest)}; one place for each prompt, {self.side:g} of the shorter side. Equal "
            "images: most detail."
        )

    def place(self, images: Sequence[Image.Image]) -> Place:
        """Return where the crop of one prompt is, from the images of several methods.

        Of equal values the one that is first from the top, then from the left. Images that are all equal, or a single
        one, have no difference; the rule is `detail` then, and the middle if there is no detail.
        """
        for rule in ("detail",) if self.rule == "detail" or len(images) < 2 else ("differ", "detail"):
            energy = ENERGIES[rule](_reduced(images, RULES[rule][0]))
            if energy.max() > 0:
                break
        else:
            return Place(self.centre, (True, True))
        centre = self.centre if self.rule == "fixed" else _densest(energy, self.side)
        return Place(centre, _quietest(energy, centre, self.side))


class Place(NamedTuple):
    """The centre (x, y) of a crop, as fractions, and the corner (right, lower) where its magnification hides least."""

    centre: tuple[float, float]
    corner: tuple[bool, bool]

    def box(self, size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of a crop of `side` pixels inside an image of (width, height)."""
        left, top = (
            min(max(round(place * whole - side / 2), 0), whole - side)
            for place, whole in zip(self.centre, size, strict=True)
        )
        return left, top, left + side, top + side


def _reduced(images: Sequence[Image.Image], longest: int) -> np.ndarray:
    """Return copies [N, H, W, 3] of images, as floats of 0 to 255, with a longer side of at most `longest`."""
    from PIL import Image

    width, height = images[0].size
    scale = min(1, longest / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.stack([np.asarray(image.resize(size, Image.Resampling.BOX), np.float32) for image in images])


def differ(copies: np.ndarray) -> np.ndarray:
    """Return the variance over images [N, H, W, 3], summed over colours: [H, W]."""
    return copies.var(axis=0).sum(axis=-1)


def detail(copies: np.ndarray) -> np.ndarray:
    """Return the squared Sobel gradient of the luminance of images [N, H, W, 3], the mean over images: [H, W]."""
    grey = np.pad(copies @ np.float32((0.299, 0.587, 0.114)), ((0, 0), (1, 1), (1, 1)), mode="edge")
    smooth_y = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
    smooth_x = grey[:, :, :-2] + 2 * grey[:, :, 1:-1] + grey[:, :, 2:]
    across = smooth_y[:, :, 2:] - smooth_y[:, :, :-2]
    down = smooth_x[:, 2:] - smooth_x[:, :-2]
    return (across**2 + down**2).mean(axis=0)


ENERGIES = {"differ": differ, "detail": detail}


def _densest(energy: np.ndarray, fraction: float) -> tuple[float, float]:
    """Return the centre (x, y), as fractions, of the square inside [H, W] with the largest sum."""
    height, width = energy.shape
    side = min(height, width, max(1, round(fraction * min(height, width))))
    sums = np.pad(energy.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    found = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(np.argmax(np.round(found, 2)), found.shape)
    return (float(left) + side / 2) / width, (float(top) + side / 2) / height


def _quietest(energy: np.ndarray, centre: tuple[float, float], fraction: float) -> tuple[bool, bool]:
    """Return the corner (right, lower) of [H, W] with the smallest sum, of those that don't touch the crop if any."""
    height, width = energy.shape
    side = COVERED * (height * width) ** 0.5
    reach = fraction * min(height, width) / 2

    def cost(corner: tuple[bool, bool]) -> tuple[bool, float]:
        right, lower = corner
        x = width - centre[0] * width if right else centre[0] * width  # from the corner to the crop
        y = height - centre[1] * height if lower else centre[1] * height
        across = slice(width - round(side), None) if right else slice(round(side))
        down = slice(height - round(side), None) if lower else slice(round(side))
        return x - reach < side and y - reach < side, round(float(energy[down, across].sum(dtype=np.float64)), 2)

    return min(((True, True), (False, True), (True, False), (False, False)), key=cost)
