"""Batches: one batch is the data of one generator step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor

from gansweep.data.base import Samples, to_float
from gansweep.data.stream import BatchOrder

MOST_AS_FLOATS = 32 * 1024**2
"""Bytes of the largest data set that is kept as floats; of images these take four times as much."""


@final
@dataclass(frozen=True)
class Batch:
    """The real data of one generator step, gathered batch by batch when asked for.

    indices: int64 [k, B], k discriminator steps of B samples, on the samples' device.
    """

    samples: Samples
    indices: Tensor
    device: torch.device

    @classmethod
    def take(
        cls, samples: Samples, order: BatchOrder, *, steps: int, size: int, device: torch.device
    ) -> Self:
        """The next in `order`: `steps` batches of `size` samples."""
        indices = order.take(steps * size).view(steps, size)
        return cls(samples, indices.to(samples.x.device), device)

    @property
    def steps(self) -> int:
        return self.indices.shape[0]

    @property
    def size(self) -> int:
        return self.indices.shape[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(self.samples.x.shape[1:])

    def real(self, step: int) -> Tensor:
        """x of one discriminator step: float32 [B, *shape], images in [-1, 1]."""
        x = self.samples.x.index_select(0, self.indices[step])
        return to_float(x.to(self.device, non_blocking=True))

    def labels(self, step: int) -> Tensor | None:
        """y of one discriminator step: [B] or [B, K]; None where the data have none."""
        if self.samples.labels is None:
            return None
        y = self.samples.labels.index_select(0, self.indices[step])
        return y.to(self.device, non_blocking=True)


def resident(samples: Samples, device: torch.device) -> Samples:
    """`samples` on `device` where they fit in half of its free memory, else as they are.

    A small set of images lies there as floats, which saves their conversion at every step.
    """
    if samples.x.nbytes <= MOST_AS_FLOATS:
        samples = Samples(to_float(samples.x), samples.labels, samples.class_names)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if samples.x.nbytes > free / 2:
            return samples
    labels = None if samples.labels is None else samples.labels.to(device)
    return Samples(samples.x.to(device), labels, samples.class_names)
