"""Plots of generated vectors over the real ones, drawn on a raster without a plotting library."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv1d, interpolate, max_pool2d, pad

SIDE = 256
"""Pixels of a plot's side."""

GAME = SIDE + 96
"""Pixels of the height of a plot of a 1-D game: densities and D above, the map from z below."""

FINE = 3
"""Fine pixels to a pixel, where lines are smoothed."""

LEVEL = SIDE * FINE * 15 // 16
"""Fine pixels above the axis at which D is 1."""

REAL_COLOUR = torch.tensor([140.0, 170.0, 215.0])
FAKE_COLOUR = torch.tensor([205.0, 60.0, 40.0])
D_COLOUR = torch.tensor([20.0, 20.0, 20.0])
AXIS_COLOUR = torch.tensor([190.0, 190.0, 190.0])
INK = torch.tensor([90.0, 90.0, 90.0])


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


def bars(values: Tensor, bound: float) -> Tensor:
    """How values [N] are spread over [-bound, bound]: uint8 [3, SIDE, SIDE], a bar for each 64th.

    Values beyond count with the outermost bars; the highest bar fills the picture.
    """
    counts = torch.histc(values.float().cpu().clamp(-bound, bound), SIDE // 4, -bound, bound)
    heights = (counts / counts.max().clamp(min=1) * (SIDE - 8)).round().repeat_interleave(4)
    rows = torch.arange(SIDE - 1, -1, -1).unsqueeze(1)
    return _paint(torch.full((3, SIDE, SIDE), 255.0), rows < heights, D_COLOUR).to(torch.uint8)


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
            pixels.append((scaled * (SIDE - 1)).clamp(0, SIDE - 1).round().long())
        mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        mask[SIDE - 1 - pixels[1], pixels[0]] = True
        picture = _paint(picture, mask, colour)
    return picture.to(torch.uint8)


def game(real: Tensor, fake: Tensor, judged: Tensor, moved: Tensor) -> Tensor:
    """The state of a 1-D game, as figure 1 of Goodfellow et al. 2014: uint8 [3, GAME, SIDE].

    real, fake: float [N, 1], their densities as in `histogram`, on a scale that the real ones set.
    judged: float [SIDE], D in [0, 1] at `abscissas(real)`, a black line over a grey one at 1/2.
    moved: float [K], where G takes K latents that lie evenly on the axis below, each a thin line.
    """
    low, high = _range(real[:, 0].cpu())
    picture = torch.full((3, GAME, SIDE), 255.0)
    panel, band = picture[:, :SIDE], picture[:, SIDE:]
    rows = torch.arange(SIDE * FINE - 1, -1, -1).unsqueeze(1)
    bins = SIDE // 2
    densities = [torch.histc(x[:, 0].float().cpu(), bins, low, high) / len(x) for x in (real, fake)]
    heights = [_smooth(d) / (1.5 * densities[0].max()) for d in densities]
    _blend(panel, rows < _spread_out(heights[0]) * LEVEL, REAL_COLOUR)
    _blend(panel, ((rows - LEVEL // 2).abs() <= 1).expand(-1, SIDE * FINE), AXIS_COLOUR)
    _blend(panel, _stroke(_spread_out(heights[1]), rows), FAKE_COLOUR)
    _blend(panel, _stroke(_spread_out(judged.float().cpu()), rows), D_COLOUR)
    _blend(band, _arrows((moved.float().cpu() - low) / (high - low), GAME - SIDE), INK)
    band[:, 0] = band[:, -1] = INK.unsqueeze(1)
    return picture.round().to(torch.uint8)


def abscissas(real: Tensor) -> Tensor:
    """Where the columns of the plots of 1-D data lie, float [SIDE]; `real` is float [N, 1]."""
    low, high = _range(real[:, 0].cpu())
    return torch.linspace(low, high, SIDE)


def _smooth(density: Tensor) -> Tensor:
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    padded = pad(density.view(1, 1, -1), (2, 2), mode="replicate")
    return conv1d(padded, kernel.view(1, 1, -1)).flatten()


def _spread_out(curve: Tensor) -> Tensor:
    """A curve over the whole width, in fine pixels."""
    width = SIDE * FINE
    return interpolate(curve.view(1, 1, -1), width, mode="linear", align_corners=True).flatten()


def _stroke(curve: Tensor, rows: Tensor) -> Tensor:
    """The pixels of a curve whose values are shares of `LEVEL`."""
    at = (curve.nan_to_num(0.0).clamp(0, 2) * LEVEL).round()
    before = torch.cat([at[:1], at[:-1]])
    low, high = torch.minimum(at, before) - FINE // 2, torch.maximum(at, before) + FINE // 2
    thin = ((rows >= low) & (rows <= high)).float().unsqueeze(0)
    return max_pool2d(thin, (1, FINE), stride=1, padding=(0, FINE // 2))[0] > 0


def _blend(picture: Tensor, mask: Tensor, colour: Tensor) -> None:
    """Paint the fine pixels of `mask` into `picture`, in place: smooth at their edges."""
    share = avg_pool2d(mask.float().unsqueeze(0), FINE)
    picture += share * (colour.view(3, 1, 1) - picture)


def _arrows(moved: Tensor, pixels: int) -> Tensor:
    """Lines from evenly spaced points of the lower edge up to `moved`, shares of the width."""
    height, width = pixels * FINE, SIDE * FINE
    up = torch.linspace(0, 1, height).flip(0).unsqueeze(1)  # 1 at the upper edge
    start = torch.linspace(0, 1, len(moved))
    at = ((start + (moved.nan_to_num(-9.0).clamp(-9, 9) - start) * up) * (width - 1)).round().long()
    mask = torch.zeros(height, width, dtype=torch.bool)
    for off in range(FINE // 2 + 1):
        columns = at + off
        inside = (columns >= 0) & (columns < width)
        which = torch.arange(height).unsqueeze(1).expand_as(columns)[inside]
        mask[which, columns[inside]] = True
    return mask


def _range(values: Tensor) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = (high - low) / 4 or 1.0
    return low - margin, high + margin


def _paint(picture: Tensor, mask: Tensor, colour: Tensor) -> Tensor:
    return torch.where(mask, colour.view(3, 1, 1), picture)


PLOTS: dict[int, Callable[[Tensor, Tensor], Tensor]] = {1: histogram, 2: scatter}
"""The plot for vectors of so many dimensions; more dimensions are shown as their first two."""
