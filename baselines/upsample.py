"""Plain upsampling: the image of the training size, enlarged to the target. What the staged methods have to beat."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sega.errors import RequestError
from sega.home import command_line
from sega.methods.parameters import choice, count, text
from sega.methods.staged import FromBase, base_size
from sega.methods.types import ImageRequest, Stage
from sega.store.files import file_sha_once

if TYPE_CHECKING:
    from torch import Tensor

    from sega.methods.types import Generation

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")  # what spandrel reads


@dataclass(frozen=True)
class Upsample(FromBase):
    """One stage at the training size with the target's aspect, the same as HiFlow's first; no second pass.

    A target no larger than the training area is generated as it is.

    `bicubic` is torch's, `lanczos` Pillow's (three lobes), both without rounding to 8 bits. `model` is a network for
    super-resolution, in float32, in tiles. It is applied until the image is at least as large as the target, and
    Lanczos with antialiasing brings the result to the target.
    """

    kind: str = choice(
        "bicubic",
        "bicubic",
        "lanczos",
        "model",
        later=True,
        doc="how the base is enlarged; model: by the super-resolution network of `weights`",
    )
    weights: str = text("", later=True, doc="of kind=model: path of a file that spandrel can load")
    tile: int | None = count(
        512,
        low=128,
        optional=True,
        later=True,
        doc="of kind=model: pixels of a side of what the network gets at once; none: the whole image",
    )

    name: ClassVar[str] = "upsample"

    def check(self) -> None:
        if self.kind != "model":
            for key, default in (("weights", ""), ("tile", 512)):
                if getattr(self, key) != default:
                    raise RequestError(f"upsample: {key}={getattr(self, key)} is of kind=model; add method.kind=model")
            return
        small = f"`{command_line('fetch')} esrgan-2x` fetches a small one"
        if not self.weights:
            raise RequestError(
                f"upsample: kind=model needs method.weights=<file of a super-resolution network>; {small}"
            )
        if not self.file.is_file():
            raise RequestError(f"upsample: weights={self.weights} is not a file; {small}")
        if self.file.suffix.lower() not in SUFFIXES:
            raise RequestError(f"upsample: weights={self.weights} must end in {', '.join(SUFFIXES)}")
        if find_spec("spandrel") is None:
            raise RequestError("upsample: kind=model needs spandrel: pip install 'sega-bench[upscale]'")

    @property
    def file(self) -> Path:
        """Where the network is."""
        return Path(self.weights).expanduser()

    def identity(self) -> dict[str, Any]:
        """The network counts by what is in its file, not by where that lies."""
        found = super().identity()
        return found | {"weights": file_sha_once(self.file)[:16]} if self.kind == "model" else found

    def stages(self, request: ImageRequest) -> list[Stage]:
        return [self.base_stage(base_size(request.size, self.geometry), self.schedule)]

    def finish(self, generation: Generation) -> Tensor:
        from sega.formulas.filters import bicubic, lanczos

        image, size = generation.decode(generation.latent), generation.request.size[::-1]
        if self.kind == "bicubic" or tuple(image.shape[-2:]) == size:
            return bicubic(image, size)
        image = image.float()
        return lanczos(self.enlarged(image, size) if self.kind == "model" else image, size)

    def enlarged(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """An image [1, 3, H, W] in -1..1 after the network, until it is at least `size` (rows, columns)."""
        from .kernels.superresolution import enlarge, load_network

        network, image = load_network(self.file, image.device), (image / 2 + 0.5).clamp(0, 1)
        while image.shape[-2] < size[0] or image.shape[-1] < size[1]:
            image = enlarge(network, image, self.tile)
        return 2 * image - 1
