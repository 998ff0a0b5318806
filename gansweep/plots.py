"""Plots of generated vectors over the real ones, drawn on a raster without a plotting library."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SIDE = 256
"""Pixels of a plot's side."""

REAL_COLOUR = torch.tensor([140.0, 170.0, 215.0])
FAKE_COLOUR = torch.tensor([205.0, 60.0, 40.0])


def histogram(real: Tensor, fake: Tensor) -> Tensor:
    """Densities of 1-D data: uint8 [3, SIDE, SIDE]; real filled in blue, generated a red line.

    real, fake: float [N, 1]. The abscissa spans the real data and a quarter more on each side.
    """
    low, high = _range(real[:, 0].cpu())
    bins = SIDE // 4
    densities = [torch.histc(x[:, 0].float().cpu(), bins, low, high) / len(x) for x in (real, fake)]
    top = float(max(density.max() for density in densities)) or 1.0
    heights = [
        (density / top * (SIDE - 8)).round().long().repeat_interleave(4) for density in densities
    ]
    rows = torch.arange(SIDE - 1, -1, -1).unsqueeze(1)
    picture = torch.full((3, SIDE, SIDE), 255.0)
    picture = _paint(picture, rows < heights[0], REAL_COLOUR)
    edge = torch.cat([heights[1][:1], heights[1][:-1]])
    lower, upper = torch.minimum(heights[1], edge), torch.maximum(heights[1], edge)
    picture = _paint(picture, (rows >= lower - 1) & (rows <= upper + 1), FAKE_COLOUR)
    return picture.round().to(torch.uint8)


def scatter(real: Tensor, fake: Tensor) -> Tensor:
    """Points of 2-D data: uint8 [3, SIDE, SIDE]; real in blue under generated in red.

    real, fake: float [N, D >= 2], of which the first two dimensions show. The axes span the real
    data and a quarter more on each side; generated points beyond lie on the border.
    """
    picture = torch.full((3, SIDE, SIDE), 255.0)
    for x, colour in ((real[:20_000], REAL_COLOUR), (fake, FAKE_COLOUR)):
        pixels = []
        for axis in (0, 1):
            low, high = _range(real[:, axis].cpu())
            scaled = (x[:, axis].float().cpu().nan_to_num(low) - low) / (high - low)
            pixels.append((scaled * (SIDE - 1)).round().long().clamp(0, SIDE - 1))
        mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        mask[SIDE - 1 - pixels[1], pixels[0]] = True
        picture = _paint(picture, mask, colour)
    return picture.to(torch.uint8)


def _range(values: Tensor) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = (high - low) / 4 or 1.0
    return low - margin, high + margin


def _paint(picture: Tensor, mask: Tensor, colour: Tensor) -> Tensor:
    return torch.where(mask, colour.view(3, 1, 1), picture)


PLOTS: dict[int, Callable[[Tensor, Tensor], Tensor]] = {1: histogram, 2: scatter}
"""The plot for vectors of so many dimensions; more dimensions are shown as their first two."""
