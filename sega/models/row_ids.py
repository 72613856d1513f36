"""Position ids of images whose tokens are numbered row by row from 0: pure functions."""

from __future__ import annotations

import torch
from torch import Tensor


def image_ids(grid: tuple[int, int], device: torch.device | str) -> Tensor:
    """float32 [H*W, 3]: (0, row, column), row-major."""
    height, width = grid
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float().to(device)


def shifted(ids: Tensor, by: list[float]) -> Tensor:
    """Ids [S, C] with a number added to each column; a GPU is not waited for."""
    return ids + torch.tensor(by, dtype=ids.dtype).to(ids.device, non_blocking=True)


def exact_ids(ids: Tensor) -> Tensor:
    """Row-major ids [S, 3] of one image after the other, in float32, from ids whose large values are rounded."""
    parts = []
    while len(ids):
        height, width = grid_of_rows(ids)
        parts.append(image_ids((height, width), ids.device) + ids[0].float())
        ids = ids[height * width :]
    return torch.cat(parts)


def grid_of_rows(ids: Tensor) -> tuple[int, int]:
    """Tokens (height, width) of row-major image ids [S, 3], right even where large ids are rounded.

    The width is where the row id first changes; tokens of another frame (a reference image) come after the image.
    """
    own = int((ids[:, 0] == ids[0, 0]).sum())
    other_row = (ids[:own, 1] != ids[0, 1]).nonzero()
    width = int(other_row[0]) if len(other_row) else own
    return own // width, width
