"""Latent vectors z: their distribution and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from gansweep.settings import setting


@final
@dataclass(frozen=True)
class Latent:
    """z ~ N(0, I) ("normal") or U(-1, 1)^dim ("uniform")."""

    dim: int = setting(100, "dimensions of z", ge=1)
    distribution: Literal["normal", "uniform"] = setting("normal", "N(0, 1) or U(-1, 1)")

    def ladder(self, rungs: int) -> Tensor:
        """One dimension of z at evenly spaced quantiles, from the smallest on: [rungs]."""
        shares = (torch.arange(rungs) + 0.5) / rungs
        return 2 * shares - 1 if self.distribution == "uniform" else torch.special.ndtri(shares)

    def draw(self, *shape: int, rng: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """z [*shape, dim] from `rng`, whose device must be `device`."""
        size = (*shape, self.dim)
        if self.distribution == "normal":
            return torch.randn(size, generator=rng, device=device)
        return torch.rand(size, generator=rng, device=device).mul_(2.0).sub_(1.0)
