"""Pictures from tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

MARGIN = 1
"""Pixels between the cells of a grid."""


def to_uint8(x: Tensor) -> Tensor:
    """Images in [-1, 1] to uint8, rounded to the nearest; NaN becomes 0. Any shape."""
    return x.nan_to_num(-1.0).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def tile(images: Tensor, *, columns: int) -> Tensor:
    """float [N, C, H, W] in [-1, 1] -> uint8 [C, rows (H+1) + 1, columns (W+1) + 1] on the CPU.

    Row by row, the first row on top, with one dark pixel between the cells.
    """
    cells = to_uint8(images).cpu()
    missing = -len(cells) % columns
    cells = torch.cat([cells, cells.new_zeros(missing, *cells.shape[1:])])
    cells = pad(cells, (0, MARGIN, 0, MARGIN))
    _, channels, height, width = cells.shape
    sheet = cells.view(-1, columns, channels, height, width)
    sheet = sheet.permute(2, 0, 3, 1, 4).reshape(channels, -1, columns * width)
    return pad(sheet, (MARGIN, 0, MARGIN, 0)).contiguous()
