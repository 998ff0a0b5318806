"""Sliced Wasserstein distance between two sets of samples."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from gansweep.metrics.base import Score, Subject
from gansweep.metrics.extractors.base import Extractor, Seen
from gansweep.metrics.features import Features
from gansweep.seeding import stream

PROJECTIONS = 256


@final
class Projections(Extractor):
    """Samples on 256 random directions, or as they are in one dimension."""

    name = "projections"
    version = "1"
    cheap = True
    directions: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject.spec)
        size = math.prod(subject.spec.shape)
        rng = stream(subject.seed, "swd")
        directions = torch.randn(size, PROJECTIONS if size > 1 else 1, generator=rng)
        self.register_buffer("directions", directions / directions.norm(dim=0))

    def forward(self, x: Tensor) -> Seen:
        return Seen(x.flatten(1) @ self.directions)


@final
class SlicedWasserstein(Score):
    """W1 between projections on random directions, averaged over 256 directions.

    E_theta[ W1(theta . real, theta . fake) ], theta uniform on the unit sphere, in units of the
    data (images in [-1, 1]). In one dimension there is one direction and this is W1 exactly.
    Rabin et al. 2011; for generated images Deshpande et al. 2018.
    """

    name = "swd"
    version = "1"

    def __init__(self, subject: Subject, extractor: Extractor) -> None:
        super().__init__(subject, Projections(subject))

    def statistics(self, real: Features) -> dict[str, Tensor]:
        return {"sorted": real.x.sort(dim=0).values}

    def __call__(self, fake: Features, real: Features) -> float:
        """Both sets must have the same number of samples."""
        return float((fake.x.sort(dim=0).values - real.statistics["sorted"]).abs().mean())

    def resampled(self, fake: Features, real: Features, counts: Tensor) -> list[float]:
        """Each direction is sorted once: a sample of samples has them in the same order."""
        values, order = fake.x.T.contiguous().sort(dim=1)
        target = real.statistics["sorted"].T
        found = []
        for row in counts:
            drawn = values.flatten().repeat_interleave(row[order].flatten())
            found.append(float((drawn.view_as(values) - target).abs().mean()))
        return found
