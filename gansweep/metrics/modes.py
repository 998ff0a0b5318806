"""Modes, high-quality share and reverse KL of toys whose modes are known, as PacGAN has them.

Lin et al. 2018, section 4.1; their code is `MetricLogger` in fjxmlzn/PacGAN,
synthetic_data_experiments/PacGAN/pacgan/extensions.py.
"""

from __future__ import annotations

import math
from abc import ABC
from typing import final

import torch
from torch import Tensor

from gansweep.metrics.base import Score, Subject
from gansweep.metrics.divergence import divergence
from gansweep.metrics.extractors.base import Extractor
from gansweep.metrics.features import Features

SIGMAS = 3.0
"""A sample is of high quality within so many standard deviations of its nearest mode."""


class ModeScore(Score, ABC):
    """A score of which modes the samples are near."""

    version = "2"

    @final
    def __init__(self, subject: Subject, extractor: Extractor) -> None:
        super().__init__(subject, extractor)
        if subject.modes is None:
            what = "counts the known modes of a toy, these data have none"
            raise self.refuse(what, "use ring8 or grid25, or name another score")
        self.modes = subject.modes

    @final
    def histogram(self, fake: Features) -> Tensor:
        """How many samples of high quality each mode has, int64 [K]."""
        mode, distance = self.modes.nearest(fake.x)
        good = mode[distance < SIGMAS * self.modes.std]
        return torch.bincount(good, minlength=len(self.modes.centres))


@final
class ModesCovered(ModeScore):
    """How many modes have at least one sample of high quality."""

    name = "modes"
    mode = "max"

    def __call__(self, fake: Features, real: Features) -> float:
        return float((self.histogram(fake) > 0).sum())


@final
class HighQuality(ModeScore):
    """Share of the samples within three standard deviations of their nearest mode."""

    name = "high_quality"
    mode = "max"

    def __call__(self, fake: Features, real: Features) -> float:
        return int(self.histogram(fake).sum()) / len(fake)


@final
class ReverseKL(ModeScore):
    """KL(p_fake || uniform) over the modes, in nats, p_fake the histogram of high-quality samples.

    So the authors' code counts, without smoothing: log K less the entropy that it prints. Of no
    sample of high quality there is no histogram (nan there); here the value is then log K, the
    largest that there is, as of samples in one mode.
    """

    name = "reverse_kl"

    def __call__(self, fake: Features, real: Features) -> float:
        counts = self.histogram(fake)
        if not counts.any():
            return math.log(len(counts))
        return float(divergence(counts, torch.ones_like(counts)))
