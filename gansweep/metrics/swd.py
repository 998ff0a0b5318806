"""Sliced Wasserstein distance between two sets of samples."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from gansweep.metrics.base import Score
from gansweep.seeding import stream

PROJECTIONS = 256


@final
class SlicedWasserstein(Score):
    """W1 between projections on random directions, averaged over 256 directions.

    E_theta[ W1(theta . real, theta . fake) ], theta uniform on the unit sphere, in units of the
    data (images in [-1, 1]). In one dimension there is one direction and this is W1 exactly.
    Rabin et al. 2011; for generated images Deshpande et al. 2018.
    """

    name = "swd"

    def __init__(self, real: Tensor, *, seed: int) -> None:
        flat = real.flatten(1)
        count = PROJECTIONS if flat.shape[1] > 1 else 1
        rng = stream(seed, "swd")
        directions = torch.randn(flat.shape[1], count, generator=rng)
        self._directions = (directions / directions.norm(dim=0)).to(real.device)
        self._real = self._sorted(flat)

    def __call__(self, fake: Tensor) -> float:
        """Both sets must have the same number of samples."""
        return float((self._sorted(fake.flatten(1)) - self._real).abs().mean())

    def _sorted(self, flat: Tensor) -> Tensor:
        projected: Tensor = flat @ self._directions
        return projected.sort(dim=0).values
