"""Plain upsampling: the image of the training size, bicubic to the target. What the staged methods have to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sega.methods.staged import FromBase, base_size
from sega.methods.types import ImageRequest, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from sega.methods.types import Generation


@dataclass(frozen=True)
class Upsample(FromBase):
    """One stage at the training size with the target's aspect, the same as HiFlow's first; no second pass.

    A target no larger than the training area is generated as it is.
    """

    name: ClassVar[str] = "upsample"

    def stages(self, request: ImageRequest) -> list[Stage]:
        return [self.base_stage(base_size(request.size, self.geometry), self.schedule)]

    def finish(self, generation: Generation) -> Tensor:
        from sega.formulas.filters import bicubic

        width, height = generation.request.size
        return bicubic(generation.decode(generation.latent), (height, width))
