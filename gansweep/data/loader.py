"""Batches for Lightning: one batch is the data of one generator step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

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


@final
class ResidentLoader:
    """An iterable of `Batch`, from generator step `start` to `stop`, over data held in memory.

    The data lie on `device` where they take less than half of its free memory, else in host
    memory. `d_steps(g)` is how many discriminator steps generator step g has. It has a length,
    so Lightning fetches nothing ahead and `order` stands where training stands.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        order: BatchOrder,
        batch_size: int,
        d_steps: Callable[[int], int],
        start: int,
        stop: int,
        device: torch.device,
    ) -> None:
        self.order = order
        self._samples = resident(samples, device)
        self._batch_size = batch_size
        self._d_steps = d_steps
        self._start = start
        self._stop = stop
        self._device = device

    def __len__(self) -> int:
        return max(0, self._stop - self._start)

    def __iter__(self) -> Iterator[Batch]:
        home = self._samples.x.device
        for g_step in range(self._start, self._stop):
            steps = self._d_steps(g_step)
            indices = self.order.take(steps * self._batch_size).view(steps, self._batch_size)
            yield Batch(self._samples, indices.to(home, non_blocking=True), self._device)


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
