"""Wasserstein-1 distance of data on the line."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from gansweep.metrics.base import Score, Subject
from gansweep.metrics.extractors.base import Extractor
from gansweep.metrics.features import Features


@final
class Wasserstein1(Score):
    """W1 = integral |F_real(t) - F_fake(t)| dt of the sets' distribution functions, exactly.

    In units of the data; the sets may differ in size. Vallender 1974.
    """

    name = "w1"
    version = "1"

    def __init__(self, subject: Subject, extractor: Extractor) -> None:
        super().__init__(subject, extractor)
        if subject.spec.shape != (1,):
            what = f"is for data on the line, these have shape {subject.spec.shape}"
            raise self.refuse(what, "use gaussian1d, or the score swd")

    def statistics(self, real: Features) -> dict[str, Tensor]:
        return {"sorted": real.x[:, 0].double().sort().values}

    def __call__(self, fake: Features, real: Features) -> float:
        a, b = fake.x[:, 0].double().sort().values, real.statistics["sorted"]
        steps = torch.cat([a, b]).sort().values
        below = [torch.searchsorted(s, steps[:-1], right=True).double() / len(s) for s in (a, b)]
        return float(((below[0] - below[1]).abs() * steps.diff()).sum())
