"""FLUX's rotary table from a Rope and position ids: pure functions.

Columns lie axis after axis (frame, height, width), each value repeated for the two members of a pair.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sega.methods.base import base_axis
from sega.methods.geometry import Geometry
from sega.methods.types import Axis, Rope


def rotary_table(ids: Tensor, rope: Rope, geometry: Geometry, *further: Axis) -> tuple[Tensor, Tensor]:
    """cos and sin, float32 [S, sum(axes)], for position ids [S, 3] (frame, row, column), on the device of the ids.

    Models with `further` axes have further columns of ids for them.

    Angles are taken in float64; magnitudes multiply both. Text rows share the table. The ids must be exact: bfloat16
    can't hold odd integers above 256.
    """
    frame = base_axis(geometry.axes[0], geometry.theta)
    cos, sin = [], []
    for column, axis in enumerate((frame, rope.height, rope.width, *further)):
        places, row = ids[:, column], slice(None)
        if ids.device.type == "cpu":
            # A 4096 px table has 66,048 rows but 256 positions an axis: cosines are taken once per position. A GPU has
            # them all sooner than it says how many differ.
            places, row = places.unique(return_inverse=True)
        angles = torch.outer(places.to(torch.float64), axis.frequencies.to(ids.device, non_blocking=True))
        magnitudes = axis.magnitudes.to(ids.device, non_blocking=True)
        for values, columns in ((angles.cos(), cos), (angles.sin(), sin)):
            pairs = (values * magnitudes).to(torch.float32)
            columns.append(pairs.repeat_interleave(2, dim=1)[row])
    return torch.cat(cos, dim=1), torch.cat(sin, dim=1)
