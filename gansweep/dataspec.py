"""What the data look like: the shape of one sample and what it can be conditioned on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """A condition y given to generator and discriminator.

    kind "class": y is an int64 tensor [N] with values 0..size-1.
    kind "vector": y is a float32 tensor [N, size] (attributes, or an embedding).
    """

    kind: Literal["class", "vector"]
    size: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSpec:
    """Shape of one sample, (C, H, W) for images in [-1, 1] or (D,) for vectors, and its labels."""

    shape: tuple[int, ...]
    condition: Condition | None = None

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3


@dataclass(frozen=True)
class Modes:
    """Where the truth of a toy is: equal, round Gaussians of `std` around each of `centres`."""

    centres: tuple[tuple[float, ...], ...]
    std: float

    def nearest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of x [N, D] each one's nearest mode, int64 [N], and how far it is, float64 [N]."""
        centres = torch.tensor(self.centres, dtype=torch.float64, device=x.device)
        exact = "donot_use_mm_for_euclid_dist"
        distance, mode = torch.cdist(x.double(), centres, compute_mode=exact).min(1)
        return mode, distance
