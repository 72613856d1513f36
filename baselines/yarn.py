"""YaRN (Peng et al. 2023), in the form image code uses or in that of its paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sega.methods.base import Method, uniform_axis
from sega.methods.parameters import choice
from sega.methods.types import Axis


@dataclass(frozen=True)
class YaRN(Method):
    """Fast pairs stay, slow ones are interpolated; all pairs get the magnitude 1 + 0.1 ln scale.

    On FLUX text shares the table and is scaled too; on Qwen-Image it stays as it is.
    """

    variant: str = choice(
        "image", "image", "llm", doc="image: the two blends of image code; llm: the one blend of the YaRN paper"
    )

    name: ClassVar[str] = "yarn"

    def stretch(self, dim: int, scale: float, sigma: float) -> Axis:
        from sega.formulas import rope

        form = rope.yarn_image if self.variant == "image" else rope.yarn_llm
        frequencies = form(dim, self.geometry.theta, scale, self.geometry.train_tokens)
        return uniform_axis(frequencies, rope.attention_magnitude(scale))
