"""Modes, high-quality share and reverse KL of toys whose modes are known, as PacGAN has them."""

from __future__ import annotations

from abc import ABC
from typing import final

import torch
from torch import Tensor

from gansweep.metrics.base import Score, Subject
from gansweep.metrics.classes import divergence
from gansweep.metrics.extractors.base import Extractor
from gansweep.metrics.features import Features

SIGMAS = 3.0
"""A sample is of high quality within so many standard deviations of its nearest mode."""


class ModeScore(Score, ABC):
    """A score of which modes the samples are near. Lin et al. 2018, section 4.1."""

    version = "1"

    @final
    def __init__(self, subject: Subject, extractor: Extractor) -> None:
        super().__init__(subject, extractor)
        if subject.modes is None:
            what = "counts the known modes of a toy, these data have none"
            raise self.refuse(what, "use ring8 or grid25, or name another score")
        self.centres = torch.tensor(subject.modes.centres, dtype=torch.float64)
        self.radius = SIGMAS * subject.modes.std

    @final
    def nearest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of x [N, D] the nearest mode, int64 [N], and whether it is of high quality, bool [N]."""
        centres = self.centres.to(x.device)
        distance, mode = torch.cdist(
            x.double(), centres, compute_mode="donot_use_mm_for_euclid_dist"
        ).min(1)
        return mode, distance < self.radius


@final
class ModesCovered(ModeScore):
    """How many modes have at least one sample of high quality."""

    name = "modes"
    mode = "max"

    def __call__(self, fake: Features, real: Features) -> float:
        mode, good = self.nearest(fake.x)
        return float(len(torch.unique(mode[good])))


@final
class HighQuality(ModeScore):
    """Share of the samples within three standard deviations of their nearest mode."""

    name = "high_quality"
    mode = "max"

    def __call__(self, fake: Features, real: Features) -> float:
        return float(self.nearest(fake.x)[1].double().mean())


@final
class ReverseKL(ModeScore):
    """KL(p_fake || uniform) over the modes, in nats: each sample counts for its nearest mode."""

    name = "reverse_kl"

    def __call__(self, fake: Features, real: Features) -> float:
        counts = torch.bincount(self.nearest(fake.x)[0], minlength=len(self.centres))
        return divergence(counts, torch.ones_like(counts))
