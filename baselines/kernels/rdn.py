"""A residual dense network (Zhang et al., arXiv 1802.08797), as an architecture that spandrel can load.

Its layers are those of idealo's image-super-resolution in Keras, and so are the names in a file: `F_m1`, `F_0`; in
block i the convolutions `F_i_c` and the 1x1 `LFF_i`; `GFF_1`, `GFF_2`; `UPN1` to `UPN3`, and `SR` after an enlargement
by nearest neighbours. `sega.loading.esrgan` makes such files. Every number is read from the shapes of the weights.
"""

from __future__ import annotations

from itertools import count

import torch
import torch.nn.functional as F
from spandrel import Architecture, ImageModelDescriptor, StateDict
from spandrel.util import KeyCondition
from torch import Tensor, nn

RANGE = 255.0  # values of input and output in training
KEYS = ("F_m1", "F_0", "F_1_1", "LFF_1", "GFF_1", "GFF_2", "UPN1", "UPN2", "UPN3", "SR")


class RDN(nn.Module):
    """From [B, 3, H, W] in 0..1 to [B, 3, sH, sW]; s^2 = (filters of `UPN3`)/3."""

    def __init__(self, state: StateDict) -> None:
        super().__init__()
        for key in [key for key in state if key.endswith(".weight")]:
            out, into, side, _ = state[key].shape
            self.add_module(key.removesuffix(".weight"), nn.Conv2d(into, out, side, padding=side // 2))
        self.scale = round((len(state["UPN3.weight"]) / 3) ** 0.5)

    def _relu(self, name: str, x: Tensor) -> Tensor:
        return F.relu(self._modules[name](x))

    def forward(self, x: Tensor) -> Tensor:
        layer = self._modules
        first = layer["F_m1"](x * RANGE)
        hidden, blocks = layer["F_0"](first), []
        for i in count(1):
            if f"LFF_{i}" not in layer:
                break
            dense = hidden
            for c in count(1):
                if f"F_{i}_{c}" not in layer:
                    break
                dense = torch.cat([dense, self._relu(f"F_{i}_{c}", dense)], 1)
            hidden = layer[f"LFF_{i}"](dense) + hidden
            blocks.append(hidden)
        fused = layer["GFF_2"](layer["GFF_1"](torch.cat(blocks, 1))) + first
        fine = layer["UPN3"](self._relu("UPN2", self._relu("UPN1", fused)))
        return layer["SR"](F.interpolate(fine, scale_factor=self.scale, mode="nearest")) / RANGE


class RDNArch(Architecture[RDN]):
    """How spandrel finds and loads an RDN."""

    def __init__(self) -> None:
        super().__init__(id="RDN", detect=KeyCondition.has_all(*(f"{key}.weight" for key in KEYS)))

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[RDN]:
        model = RDN(state_dict)
        return ImageModelDescriptor(
            model,
            state_dict,
            architecture=self,
            purpose="SR",
            tags=[],
            supports_half=False,
            supports_bfloat16=True,
            scale=model.scale,
            input_channels=state_dict["F_m1.weight"].shape[1],
            output_channels=len(state_dict["SR.weight"]),
        )
