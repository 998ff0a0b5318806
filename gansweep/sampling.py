"""Sampling a generator for people and for scores: frozen latents, eval mode, EMA weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from gansweep.data.base import Samples, to_float
from gansweep.dataspec import Condition, DataSpec
from gansweep.images import tile
from gansweep.latent import Latent
from gansweep.modules.alternating import evaluating, global_state
from gansweep.plots import PLOTS
from gansweep.seeding import stream

MAX_ROWS = 16
"""Rows of a conditional grid where the data have more classes than fit a page."""


@final
class Sampler:
    """Draws from generators, in eval mode, with latents that are always the same.

    The latents and labels of the grid and those of the evaluation are drawn once, from seeds that
    all trials of a sweep share, so that grids compare cell by cell. So is what generators draw by
    themselves (noise in their layers).
    """

    def __init__(
        self,
        *,
        latent: Latent,
        samples: Samples,
        condition: Condition | None,
        grid: tuple[int, int],
        grid_seed: int,
        count: int,
        seed: int,
        device: torch.device,
        batch_size: int = 500,
    ) -> None:
        """`grid` is (rows, columns); `count` is how many samples an evaluation draws."""
        self._spec: DataSpec = samples.spec
        self._samples = samples
        self._batch_size = batch_size
        rows, columns = grid
        if condition and condition.kind == "class":
            rows = min(condition.size, MAX_ROWS)
        self._columns = columns
        if not self._spec.is_image:
            rows, columns = 1, count  # a plot shows the density, not single samples
        rng = stream(grid_seed, "grid")
        self._grid_z = self._frozen_latents(latent, rows, columns, condition, rng).to(device)
        self._grid_y = self._grid_labels(rows, columns, condition, rng, device)
        rng = stream(seed, "evaluation")
        self._z = latent.draw(count, rng=rng).to(device)
        self._noise = stream(seed, "evaluation", "noise", device=device).get_state()
        picked = torch.randint(len(samples), (count,), generator=rng)
        self._y = (
            samples.labels[picked].to(device) if condition and samples.labels is not None else None
        )

    def _frozen_latents(
        self,
        latent: Latent,
        rows: int,
        columns: int,
        condition: Condition | None,
        rng: torch.Generator,
    ) -> Tensor:
        """z [rows * columns, dim]; of a class-conditional grid each column shares its latent."""
        if condition and condition.kind == "class" and self._spec.is_image:
            return latent.draw(columns, rng=rng).repeat(rows, 1)
        return latent.draw(rows * columns, rng=rng)

    def _grid_labels(
        self,
        rows: int,
        columns: int,
        condition: Condition | None,
        rng: torch.Generator,
        device: torch.device,
    ) -> Tensor | None:
        labels = self._samples.labels
        if condition is None or labels is None:
            return None
        if condition.kind == "class" and self._spec.is_image:
            return torch.arange(rows).repeat_interleave(columns).to(device)
        picked = torch.randint(len(labels), (rows * columns,), generator=rng)
        return labels[picked].to(device)

    def grid(self, generator: nn.Module) -> Tensor:
        """A picture, uint8 [C, H, W] on the CPU: tiled images, or a plot of vectors."""
        fake = self._draw(generator, self._grid_z, self._grid_y)
        if self._spec.is_image:
            return tile(fake, columns=self._columns)
        return PLOTS.get(self._spec.shape[0], PLOTS[2])(to_float(self._samples.x), fake)

    def evaluation(self, generator: nn.Module) -> Tensor:
        """float32 [count, *shape] on the device, from the frozen latents of the evaluation."""
        return self._draw(generator, self._z, self._y)

    def evaluate(self, generator: nn.Module, look: Callable[[Tensor], None]) -> Tensor | None:
        """Shows `look` the same samples in batches; their labels, None where they have none."""
        self._show(generator, self._z, self._y, look)
        return self._y

    def _draw(self, generator: nn.Module, z: Tensor, y: Tensor | None) -> Tensor:
        parts: list[Tensor] = []
        self._show(generator, z, y, parts.append)
        return torch.cat(parts)

    def _show(
        self,
        generator: nn.Module,
        z: Tensor,
        y: Tensor | None,
        look: Callable[[Tensor], None],
    ) -> None:
        with evaluating(generator), global_state(self._noise, z.device):
            for i in range(0, len(z), self._batch_size):
                part = slice(i, i + self._batch_size)
                look(generator(z[part], None if y is None else y[part]).float())
