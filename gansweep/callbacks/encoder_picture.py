"""Pictures of what an encoder and its generator make of images that are the same in every trial."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from gansweep.callbacks.base import TrialCallback
from gansweep.data.base import Samples, to_float
from gansweep.images import tile
from gansweep.modules.alternating import AlternatingModule, evaluating
from gansweep.networks.encoding import EncodingGenerator
from gansweep.seeding import stream
from gansweep.tracking.base import Tracker

MEAN_OF = 2000
"""Training images that the mean image is taken of, at most."""


@final
@dataclass(frozen=True)
class Exhibits:
    """Real images [rows, columns, *shape] in [-1, 1], and the mean training image [*shape]."""

    images: Tensor
    mean: Tensor


def exhibit(
    samples: Samples,
    held_out: Samples,
    *,
    grid: tuple[int, int],
    seed: int,
    device: torch.device,
) -> Exhibits:
    """From `seed` alone: the mean of `samples`, and a grid (rows, columns) of `held_out`."""
    rng, (rows, columns) = stream(seed, "exhibits"), grid
    order = torch.randperm(len(held_out), generator=rng)
    picked = order[torch.arange(rows * columns) % len(held_out)]
    images = to_float(held_out.x[picked]).to(device)
    some = torch.randperm(len(samples), generator=rng)[:MEAN_OF]
    mean = to_float(samples.x[some]).mean(0).to(device)
    return Exhibits(images.view(rows, columns, *images.shape[1:]), mean)


class EncoderPicture(TrialCallback):
    """Strips of images below each other, to the tracker's series `series`.

    Every `every` g_steps and at the end; of the averaged networks where there are any, in eval
    mode. As many strips as the exhibits have rows, whole groups of them, one group at least.
    """

    series: ClassVar[str]

    def __init__(self, tracker: Tracker, exhibits: Exhibits, *, every: int) -> None:
        self._tracker = tracker
        self._exhibits = exhibits
        self._every = every

    @abstractmethod
    def strips(self, G: EncodingGenerator, x: Tensor, mean: Tensor) -> tuple[Tensor, ...]:
        """What is shown of images x [N, *shape], one image below the other: each as x.

        `mean` is the mean training image [*shape].
        """

    @final
    def act(self, module: AlternatingModule, g_step: int) -> None:
        images = self._exhibits.images
        rows, columns = images.shape[:2]
        with evaluating(module.sampled) as G:
            strips = torch.stack(self.strips(G, images.flatten(0, 1), self._exhibits.mean))
        groups = strips.view(-1, *images.shape).transpose(0, 1)  # [rows, strips, columns, *shape]
        shown = groups[: max(1, rows // len(strips))]
        self._tracker.log_image(
            self.series, tile(shown.flatten(0, 2), columns=columns), step=g_step
        )
