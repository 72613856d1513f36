"""Qwen-Image's rotary tables from a Rope: pure functions.

Tables are complex64, one column a pair, axis after axis (frame, height, width); phases in float32, as the model has
them. Image positions are centred, text positions run along the diagonal of all three axes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sega.errors import RequestError
from sega.methods.base import base_axis
from sega.methods.geometry import Geometry
from sega.methods.types import Axis, Rope

STOCK_ROWS = 4096  # the model's own tables end here and would silently be cut short


def centred_positions(length: int) -> Tensor:
    """float32 [length]: -(length - length // 2), ..., -1, 0, ..., length // 2 - 1."""
    return torch.arange(length, dtype=torch.float32) - (length - length // 2)


def text_start(grid: tuple[int, int]) -> int:
    """First text position, on all axes alike."""
    return max(grid[0] // 2, grid[1] // 2)


def axis_table(positions: Tensor, axis: Axis, device: torch.device | str | None = None) -> Tensor:
    """complex64 [n, K], magnitude * exp(i * position * frequency); on the device of the magnitudes by default."""
    magnitudes = axis.magnitudes.to(torch.float32)
    phases = torch.outer(positions, axis.frequencies.to(torch.float32)).to(magnitudes.device, non_blocking=True)
    return torch.polar(magnitudes.expand_as(phases).contiguous(), phases).to(device, non_blocking=True)


def image_table(
    grid: tuple[int, int], rope: Rope, geometry: Geometry, device: torch.device | str | None = None
) -> Tensor:
    """complex64 [H*W, sum(axes) / 2] of one frame at position 0, row-major. Only tables of an axis are moved."""
    height, width = grid
    device = device or rope.height.magnitudes.device
    frame = torch.ones(height, width, geometry.axes[0] // 2, dtype=torch.complex64, device=device)
    rows = axis_table(centred_positions(height), rope.height, device)[:, None].expand(-1, width, -1)
    columns = axis_table(centred_positions(width), rope.width, device)[None].expand(height, -1, -1)
    return torch.cat([frame, rows, columns], dim=-1).reshape(height * width, -1)


def text_table(
    grid: tuple[int, int],
    length: int,
    rope: Rope,
    geometry: Geometry,
    device: torch.device | str | None = None,
) -> Tensor:
    """complex64 [length, sum(axes) / 2].

    With rope.text == "shared" the height and width columns use the rope's values (SEGA), with "base" the model's own
    (YaRN and DyPE leave text alone). The frame columns are always the model's own.
    """
    start = text_start(grid)
    if start + length > STOCK_ROWS:
        raise RequestError(f"{length} text tokens behind a {grid[0]}x{grid[1]} grid exceed {STOCK_ROWS} positions")
    positions = torch.arange(start, start + length, dtype=torch.float32)
    axes = [base_axis(dim, geometry.theta) for dim in geometry.axes]
    if rope.text == "shared":
        axes[1:] = [rope.height, rope.width]
    device = device or rope.height.magnitudes.device
    return torch.cat([axis_table(positions, axis, device) for axis in axes], dim=-1)
