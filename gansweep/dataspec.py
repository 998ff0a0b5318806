"""What the data look like: the shape of one sample and what it can be conditioned on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
